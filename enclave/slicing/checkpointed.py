"""Gradient checkpointing of a tail. Runs inside the split server, where the manifest asks for it."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch.utils.checkpoint import checkpoint

from enclave.slicing.split import Tail


def compute_again(tail: Tail) -> None:
    """Keep no activations inside the layers: the backward pass computes them again, and drops what was
    dropped. The model's own switch looks for its embeddings, which are not here; its layers know what to do
    without it."""
    for _, layer in tail.layers():
        known: Any = layer
        known.gradient_checkpointing = True
        known._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
