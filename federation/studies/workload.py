"""What decides a plan's costs, and the counts of weights that all methods' costs are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from contracts.architecture.layers import linears_of
from contracts.manifest import Adapter

FLOAT = 4
FEATURE = 2
"""Bytes of a number in a feature (bf16, enclave/training/features.py)."""


@dataclass(frozen=True)
class Workload:
    """What decides the costs. `rows` are the rows of each site's dataset, `cut` is how many layers stay with
    a site's own machine (Method 2; Method 1 behind a public front), `labels` is 0 for a causal LM; of `tags`
    each token has one."""

    method: str
    placement: str
    runtime: str
    adapter: Adapter
    cut: int
    checkpointing: bool
    labels: int
    tokens: int
    batch: int
    rounds: int
    epochs: int
    rows: tuple[int, ...]
    tags: bool = False


def layer_weights(config: Any) -> int:
    """Weights of the linears of one layer."""
    return sum(linear.inputs * linear.outputs for linear in linears_of(config))


def table_weights(config: Any) -> int:
    """Weights of the table of tokens."""
    size: int = config.vocab_size * config.hidden_size
    return size


def answering_weights(config: Any, work: Workload) -> int:
    """Weights of the layer that a causal LM answers with; none for a classifier, whose head is trained."""
    return table_weights(config) if work.labels == 0 else 0


def feature_bytes(config: Any, work: Workload) -> int:
    """Features of the largest site's rows, all of full length."""
    size: int = max(work.rows, default=0) * work.tokens * config.hidden_size * FEATURE
    return size
