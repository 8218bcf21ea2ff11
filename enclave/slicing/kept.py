"""Frozen linears whose matrices stay as a checkpoint has them: in bf16, half the memory of float32.

A matrix is widened for a product, and again for the product of the backward pass, and nothing but the matrix
itself outlives either. Widening bf16 or fp16 to float32 changes no number, so answers and gradients are those
of the float32 matrix; only where a matrix is too large to be widened as a whole (an output layer over a large
vocabulary) are sums of a gradient added up in another order. Runs in the server's TEE, in a client slice
behind a public front, and at the site for the front itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from enclave.slicing.skeleton import Skeleton

HALVES = (torch.bfloat16, torch.float16)
"""Types in which the matrix of a frozen linear may be kept."""
WIDENED = 1 << 26
"""Numbers of a matrix that are widened at a time, 256 MiB; more than a layer of a model of 8B parameters
has in one matrix (14,336 x 4,096)."""


def fill_kept(skeleton: Skeleton, part: nn.Module) -> None:
    """Fill `part` of the model, whose linears, but those of a head, keep the shorter type of the checkpoint.

    Raises: `slicing.missing_tensor` or `slicing.tensor_changed`.
    """
    skeleton.fill(part, kept_type=_type_in(skeleton))
    for parent in list(part.modules()):
        for key, child in list(parent.named_children()):
            if type(child) is nn.Linear and child.weight.dtype in HALVES:
                setattr(parent, key, KeptLinear(child))


def bytes_of(skeleton: Skeleton, part: nn.Module) -> int:
    """What `fill_kept` will take for `part` of the model."""
    type_in = _type_in(skeleton)
    named = ((owner, *each) for owner in part.modules() for each in owner.named_parameters(recurse=False))
    return sum(
        type_in(owner, key, skeleton.name_of(parameter)).itemsize * parameter.numel()
        for owner, key, parameter in named
        if parameter.is_meta
    )


def _type_in(skeleton: Skeleton) -> Callable[[nn.Module, str, str], torch.dtype]:
    """The type in which a parameter is kept: the checkpoint's own for the matrix of a frozen linear."""

    def type_in(owner: nn.Module, key: str, name: str) -> torch.dtype:
        if type(owner) is nn.Linear and key == "weight" and not name.startswith(skeleton.head):
            dtype = skeleton.base.checkpoint.places[skeleton.place_of(name)].dtype
            if dtype in HALVES:
                return dtype
        return torch.float32

    return type_in


class _KeptProduct(torch.autograd.Function):
    """x Wᵀ + b, with a gradient for x alone."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.weight = weight  # frozen: nobody writes into it before the backward pass
        if weight.numel() <= WIDENED:
            return linear(features, weight.to(features.dtype), bias)
        product = features.new_empty(*features.shape[:-1], len(weight))
        for place in _pieces(weight):
            product[..., place] = linear(features, weight[place].to(features.dtype))
        return product if bias is None else product.add_(bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None]:
        if not ctx.needs_input_grad[0]:
            return None, None, None
        gradient, total = gradients[0], None
        for place in _pieces(ctx.weight):
            product = gradient[..., place] @ ctx.weight[place].to(gradient.dtype)
            total = product if total is None else total.add_(product)
        return total, None, None


def _pieces(weight: Tensor) -> Iterator[slice]:
    """Some rows at a time."""
    count = max(1, WIDENED // weight.shape[1])
    return (slice(start, start + count) for start in range(0, len(weight), count))


class KeptLinear(nn.Linear):
    """In the place of a frozen linear, with its parameters; the matrix is bf16 or fp16."""

    def __init__(self, base: nn.Linear) -> None:
        nn.Module.__init__(self)  # the parameters of nn.Linear are not wanted
        self.out_features, self.in_features = base.weight.shape
        self.weight = base.weight.requires_grad_(False)
        self.register_parameter("bias", base.bias)

    def forward(self, features: Tensor) -> Tensor:
        """The linear's answer.

        Args: `features` (…, inputs) of any float dtype.

        Returns: (…, outputs) in the dtype of `features`, or of autocast.
        """
        bias: Tensor | None = self.bias
        if torch.is_autocast_enabled(features.device.type):
            features = features.to(torch.get_autocast_dtype(features.device.type))
            bias = None if bias is None else bias.to(features.dtype)
        product: Tensor = _KeptProduct.apply(features, self.weight, bias)
        return product
