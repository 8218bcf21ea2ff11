"""Gradient checkpointing of a model or of a tail. Runs inside the enclave, where the manifest asks for it."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer


def compute_again(model: nn.Module) -> None:
    """Keep no activations inside the layers: the backward pass computes them again, and drops what was
    dropped. The model's own switch looks for its embeddings, which a tail lacks; its layers know what to do
    without it. No cache is kept: a layer that is computed again would add to it again."""
    if isinstance(model, PreTrainedModel):
        model.config.use_cache = False
    for layer in model.modules():
        if isinstance(layer, GradientCheckpointingLayer):
            known: Any = layer
            known.gradient_checkpointing = True
            known._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
