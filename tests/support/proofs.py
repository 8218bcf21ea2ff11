"""A proof for tests that have no model: what a small BERT's would say."""

from __future__ import annotations

from typing import Any

from contracts.model_proof import WAYS, Proof, Verdict


def made_proof(**changes: Any) -> Proof:
    """Everything is proven; LoRA goes on queries and values."""
    fields: dict[str, Any] = {
        "version": 1,
        "task": "sequence-classification",
        "files": {"config.json": "c" * 64},
        "model_type": "bert",
        "parameters": 100_000,
        "bytes": 400_000,
        "layers": 2,
        "positions": 512,
        "vocabulary": 100,
        "tokens": 100,
        "special": {"pad_token": "[PAD]"},
        "template": False,
        "targets": ("query", "value"),
        "new": ("classifier.weight", "classifier.bias"),
        "unused": (),
        "whole": True,
        "shape": {},
        "ways": {way: Verdict() for way in WAYS},
    }
    return Proof(**{**fields, **changes})
