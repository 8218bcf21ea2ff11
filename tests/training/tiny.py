"""Rows and settings for the tiny models of conftest.py."""

from __future__ import annotations

from pathlib import Path

from contracts.manifest import Lora, ModelSpec, Training
from contracts.rows import PairLabel, PromptResponse, TextLabel, WholeText
from enclave_host.pinning import pin

LABELS = ("infection", "injury", "metabolic")
WORDS = ("fever", "cough", "pain", "rash", "knee", "heart", "liver", "sugar", "[TOPIC]", "mild", "severe")
CHAT = ("what", "is", "user", "assistant", "system", *LABELS)
MARKS = ("<|im_start|>", "<|im_end|>")


def classifier_spec(folder: Path, **changes: object) -> ModelSpec:
    fields: dict = {"source": "tiny", "task": "sequence-classification", "files": pin(folder)}
    return ModelSpec(**{**fields, "labels": LABELS, "max_tokens": 16, **changes})


def causal_spec(folder: Path, **changes: object) -> ModelSpec:
    fields: dict = {"source": "tiny", "task": "causal-lm", "files": pin(folder)}
    return ModelSpec(**{**fields, "labels": (), "max_tokens": 16, **changes})


CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The chat template of SmolLM2, Qwen and others, without what they say as the system."""


BERT_ADAPTER = Lora(2, 4, ("query", "value", "dense"))
LLAMA_ADAPTER = Lora(2, 4, ("q_proj", "v_proj"))


def settings(**changes: object) -> Training:
    fields: dict = {"rounds": 2, "local_epochs": 1, "batch_size": 4, "learning_rate": 0.01, "seed": 7}
    return Training(**{**fields, **changes})


ROWS = [
    TextLabel(f"{severity} {first} {second}", label, "train")
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
TEXTS = [WholeText(row.text, "train") for row in ROWS]
PAIRS = [PairLabel(*row.text.split(maxsplit=1), row.label, "train") for row in ROWS]
QUESTIONS = [PromptResponse(f"what is {row.text}", row.label, "train") for row in ROWS]
