"""LoRA of which one factor stands still. Runs inside the client slice, under the rule ffa-lora."""

from __future__ import annotations

from torch import nn


def freeze_a(model: nn.Module) -> None:
    """FFA-LoRA: A stays at its initial value, which the seed gives to every site, and B alone is tuned.

    Source: Sun et al., arXiv 2403.12313.
    """
    for name, parameter in model.named_parameters():
        if ".lora_A." in name:
            parameter.requires_grad_(False)
