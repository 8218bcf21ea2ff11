"""What decides a plan's costs, and the counts of weights that all methods' costs are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from contracts.architecture.layers import Linear, linears_of
from contracts.architecture.spf_size import head_of, size_of
from contracts.manifest import Adapter, Lora, Prefix
from federation.studies.passes import UNKNOWN, ScoringWork, featured

FLOAT = 4
HALF = 2
FEATURE = 2
"""Bytes of a number in a feature (bf16, enclave/training/features.py)."""


@dataclass(frozen=True)
class Workload:
    """What decides the costs. `rows` are the rows of each site's dataset, `cut` is how many layers stay with
    a site's own machine (Method 2; Method 1 behind a public front), `labels` is 0 for a causal LM; of `tags`
    each token has one. `at_once` rows go through the model together (0: a batch); `held` are the bytes of a
    number in the model's files, and `learnt` is the share of a written text that is learnt, at most."""

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
    at_once: int = 0
    held: int = FLOAT
    learnt: float = 1.0
    passes: ScoringWork = UNKNOWN


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
    """Features of the largest site's rows, all of full length; of a question that is scored, of each
    choice."""
    size: int = max(featured(work), default=0) * work.tokens * config.hidden_size * FEATURE
    return size


def trained_parameters(config: Any, work: Workload) -> tuple[int, int]:
    """Trained parameters, and the tensors that they are in: what the enclave will build, exactly."""
    adapter, layers = work.adapter, config.num_hidden_layers
    if not isinstance(adapter, Lora | Prefix):
        counted = size_of(config, adapter, work.cut, work.labels, tags=work.tags)
        return counted.parameters, counted.tensors
    head, tensors = head_of(config, work.labels, tags=work.tags)
    if isinstance(adapter, Prefix):
        groups = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return head + 2 * layers * adapter.length * groups * size, tensors + 1
    tuned = [linear for linear in linears_of(config) if targeted(linear, adapter.targets)]
    each, behind = sum(adapter.rank * (linear.inputs + linear.outputs) for linear in tuned), layers - work.cut
    return head + behind * each, tensors + 2 * behind * len(tuned)


def targeted(linear: Linear, targets: Sequence[str]) -> bool:
    """Whether LoRA's targets name it, by suffix as peft takes them."""
    return any(linear.path == target or linear.path.endswith(f".{target}") for target in targets)
