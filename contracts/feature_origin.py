"""What decides a site's features: any change of it makes new ones. Pure; runs on every side."""

from __future__ import annotations

from contracts.canonical import digest
from contracts.manifest import ModelSpec


def origin(spec: ModelSpec, k: int, dataset_digest: str) -> str:
    """SHA-256 over the model's files (its tokenizer among them), how many layers compute them, the task, the
    labels and their order, the longest example, and the dataset."""
    return digest({"domain": "fedslice/features/v1", "model": spec, "k": k, "dataset": dataset_digest})
