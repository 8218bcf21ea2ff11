"""LoRA on one linear: y = W·x + b + scale · B·A·dropout(x), with W and b left as they are.

Bit for bit what peft's LoRA computes, and drawn as peft draws it, so that a run can be repeated with plain
peft. peft itself is not loaded in an enclave: importing it costs seconds and megabytes for this one
formula. Runs inside the enclave.

Source: Hu et al., LoRA, arXiv 2106.09685.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from contracts.manifest import Lora, Spf

LINEARS = (nn.Linear, Conv1D)
"""What can carry LoRA: layers (…, inputs) -> (…, outputs) with one matrix."""


class LoraLinear(nn.Module):
    """A linear, and beside it a trainable float32 pair: A (rank, inputs) and B (outputs, rank)."""

    def __init__(self, base_layer: nn.Module, adapter: Lora | Spf) -> None:
        """A is drawn (a = √5) and B is zero: the answer stays what it was. What training drops is drawn by
        torch, in here, where the training loop has set its seed.

        Source: He et al., arXiv 1502.01852.
        """
        super().__init__()
        weight = base_layer.weight
        assert isinstance(base_layer, LINEARS) and isinstance(weight, Tensor)
        outputs, inputs = weight.shape if isinstance(base_layer, nn.Linear) else weight.shape[::-1]
        self.base_layer = base_layer
        self.lora_dropout = nn.Dropout(adapter.dropout) if adapter.dropout else nn.Identity()
        self.lora_A = nn.Linear(inputs, adapter.rank, bias=False)
        self.lora_B = nn.Linear(adapter.rank, outputs, bias=False)
        self.scale = adapter.alpha / (math.sqrt(adapter.rank) if adapter.rslora else adapter.rank)
        nn.init.kaiming_uniform_(self.lora_A.weight, a=math.sqrt(5))  # a second draw, as in peft
        nn.init.zeros_(self.lora_B.weight)
        self.lora_A.to(weight.device)
        self.lora_B.to(weight.device)

    def forward(self, features: Tensor) -> Tensor:
        """The linear's answer, with LoRA's added.

        Args: `features` (…, inputs) of any float dtype.

        Returns: (…, outputs) in the dtype of the linear's own answer.
        """
        answer: Tensor = self.base_layer(features)
        if not torch.is_autocast_enabled(features.device.type):
            features = features.to(self.lora_A.weight.dtype)
        return (answer + self.lora_B(self.lora_A(self.lora_dropout(features))) * self.scale).to(answer.dtype)


def put_lora(model: nn.Module, places: list[str], adapter: Lora | Spf) -> None:
    """Put a pair on the linears at `places` (their paths in `model`), in this order: so they are drawn."""
    for place in places:
        parent, _, name = place.rpartition(".")
        pair = LoraLinear(model.get_submodule(place), adapter)
        setattr(model.get_submodule(parent), name, pair.train(model.training))
