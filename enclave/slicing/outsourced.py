"""Outsourced linears: frozen linear layers whose product, forward and backward, an engine computes.

`OutsourcedLinear` stands where a frozen `nn.Linear` or `Conv1D` stood and is used like it, by the model and
by LoRA. It holds no weights. Layers with the same input (q/k/v, gate/up) share a `SharedInputGroup`: the
first of them sends the input out, the others find their share of the answer. Bias, adapters and all else
stay inside. Runs inside the enclave."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from enclave.masking.engine import QuantisedEngine
from enclave.masking.layers import FrozenLayer


class _OffloadedProduct(torch.autograd.Function):
    """y = x·Wᵀ, dL/dx = dL/dy·W. W is frozen and outside, so it has no gradient."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, group: SharedInputGroup) -> tuple[Tensor, ...]:
        ctx.group = group
        flat = features.detach().reshape(-1, features.shape[-1]).float()
        product = group.engine.forward(group.layer, flat)
        shaped = product.view(*features.shape[:-1], group.layer.outputs)
        return tuple(piece.contiguous() for piece in shaped.split(group.widths, dim=-1))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None]:
        group: SharedInputGroup = ctx.group
        if not ctx.needs_input_grad[0]:
            return None, None
        gradient = gradients[0] if len(gradients) == 1 else torch.cat(gradients, dim=-1)
        flat = gradient.reshape(-1, group.layer.outputs).float()
        product = group.engine.backward(group.layer, flat)
        return product.view(*gradient.shape[:-1], group.layer.inputs), None


class SharedInputGroup:
    """One frozen layer and its members: linears of the given widths that see the same input."""

    def __init__(self, layer: FrozenLayer, widths: tuple[int, ...]) -> None:
        self.layer = layer
        self.widths = widths
        self.engine: QuantisedEngine
        self._input: tuple[Tensor, int] | None = None
        self._outputs: dict[int, Tensor] = {}

    def attach(self, engine: QuantisedEngine) -> None:
        """From now on `engine` multiplies."""
        self.engine = engine
        self.forget()

    def forget(self) -> None:
        """Drop answers that nobody fetched."""
        self._input, self._outputs = None, {}

    def output(self, member: int, features: Tensor) -> Tensor:
        """One member's answer. The same tensor object makes one request for all members.

        Args: `features` (…, inputs) float32.

        Returns: (…, width of the member) float32.
        """
        state = (features, 0 if features.is_inference() else features._version)
        known = self._input is not None and self._input[0] is features and self._input[1] == state[1]
        if not known or member not in self._outputs:
            self._input = state
            self._outputs = dict(enumerate(_OffloadedProduct.apply(features, self)))
        output = self._outputs.pop(member)
        if not self._outputs:
            self.forget()
        return output


class OutsourcedLinear(nn.Linear):
    """A member of a group. Its `weight` is for those who ask for shape and device: one NaN, seen everywhere,
    so that whoever multiplied with it would notice."""

    def __init__(self, group: SharedInputGroup, member: int, bias: Tensor | None) -> None:
        super().__init__(group.layer.inputs, group.widths[member], bias=False, device="meta")
        nothing = torch.full((), math.nan).expand(group.widths[member], group.layer.inputs)
        self.weight = nn.Parameter(nothing, requires_grad=False)
        self.group, self.member = group, member
        kept = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)
        self.register_parameter("bias", kept)

    def forward(self, features: Tensor) -> Tensor:
        """The linear's answer, made outside.

        Args: `features` (…, inputs) float32.

        Returns: (…, outputs) float32.
        """
        output = self.group.output(self.member, features)
        return output if self.bias is None else output + self.bias

    def _apply(self, fn: Any, recurse: bool = True) -> OutsourcedLinear:
        """Moves and casts concern the bias alone: there is no weight to move."""
        if self.bias is not None:
            self.bias.data = fn(self.bias.data)
        return self
