"""Rows and settings for the tiny models of conftest.py."""

from __future__ import annotations

from pathlib import Path

from contracts.manifest import Lora, ModelSpec, Training
from enclave.slicing.models import pin
from enclave.training.data import Row

WORDS = ("fever", "cough", "pain", "rash", "knee", "heart", "liver", "sugar", "[TOPIC]", "mild", "severe")
LABELS = ("infection", "injury", "metabolic")


def classifier_spec(folder: Path, **changes: object) -> ModelSpec:
    fields: dict = {"source": "tiny", "task": "sequence-classification", "files": pin(folder)}
    return ModelSpec(**{**fields, "labels": LABELS, "max_tokens": 16, **changes})


def causal_spec(folder: Path) -> ModelSpec:
    return ModelSpec(source="tiny", task="causal-lm", files=pin(folder), labels=(), max_tokens=16)


BERT_ADAPTER = Lora(2, 4, ("query", "value", "dense"))
LLAMA_ADAPTER = Lora(2, 4, ("q_proj", "v_proj"))


def settings(**changes: object) -> Training:
    fields: dict = {"rounds": 2, "local_epochs": 1, "batch_size": 4, "learning_rate": 0.01, "seed": 7}
    return Training(**{**fields, **changes})


ROWS = [
    Row(f"{severity} {first} {second}", label)
    for severity in ("mild", "severe")
    for first, second, label in (
        ("fever", "cough", "infection"),
        ("rash", "fever", "infection"),
        ("knee", "pain", "injury"),
        ("pain", "knee pain knee", "injury"),
        ("sugar", "liver", "metabolic"),
        ("liver", "sugar heart", "metabolic"),
    )
]
