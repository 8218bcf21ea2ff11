"""A linear of which only some rows are tuned.

The tuned rows are a parameter of their own, so their gradient, their optimizer state and the GEMM of the
weight gradient have as many rows as are tuned. The product itself is one GEMM with the whole matrix: the rows
are written into their places in it before, which costs one copy of the tuned rows and leaves the outputs
where they are, so nothing is ever permuted. No other row is ever written.
Runs in the server's TEE.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

Matrix = Callable[[], Tensor]
"""The whole matrix, for a product."""


class _RowTunedProduct(torch.autograd.Function):
    """x Wᵀ + b with a gradient for x and for the rows `index` of W alone."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, rows: Tensor, matrix: Matrix, bias: Tensor | None, index: Tensor
    ) -> Tensor:
        # The rows are saved so that torch notices who changes them before the backward pass. The matrix is
        # not: a second product writes the same rows into it again, and that harms nobody.
        ctx.save_for_backward(features, rows, index)
        ctx.matrix = matrix
        return linear(features, matrix(), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        features, rows, index = ctx.saved_tensors
        gradient = gradients[0]
        for_features = gradient @ ctx.matrix() if ctx.needs_input_grad[0] else None
        for_rows = None
        if ctx.needs_input_grad[1]:
            outputs = gradient.reshape(-1, gradient.shape[-1]).index_select(1, index)
            for_rows = (outputs.t() @ features.reshape(-1, features.shape[-1])).to(rows.dtype)
        return for_features, for_rows, None, None, None


class RowTunedLinear(nn.Linear):
    """`rows` (tuned, inputs) is the trained parameter, float32; `index` (tuned,) says where the rows belong.

    `frozen` (outputs, inputs) is the matrix that the products use; nobody else reads it. Where it has a
    shorter type than the rows (`slicing.kept`), each product has a wide copy of it. With every row tuned
    there is none: `rows` is the matrix. The bias is frozen.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, index: Tensor) -> None:
        """`weight` (outputs, inputs) is taken over, not copied; `index` ascends."""
        nn.Module.__init__(self)  # the parameters of nn.Linear are not wanted
        self.out_features, self.in_features = weight.shape
        weight = weight.detach()
        self.index: Tensor
        self.register_buffer("index", index.to(weight.device), persistent=False)
        every = len(index) == len(weight)
        self.rows = nn.Parameter(weight.float() if every else weight[self.index].float())
        self.frozen = None if every else nn.Parameter(weight, requires_grad=False)
        self.register_parameter("bias", None if bias is None else nn.Parameter(bias.detach(), False))
        self._written: tuple[int, int] | None = None

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """The whole matrix as it stands now, without gradient.

        Returns: (outputs, inputs) in the dtype of the rows.
        """
        return self.rows.detach() if self.frozen is None else self._whole(self.rows.dtype)

    def _whole(self, dtype: torch.dtype) -> Tensor:
        """The matrix for a product in this type: `frozen` itself where it has it, a copy where it is
        shorter."""
        assert self.frozen is not None
        if self.frozen.dtype in (dtype, self.rows.dtype):
            return self._with_rows().to(dtype)
        with torch.no_grad():
            return self.frozen.to(dtype).index_copy_(0, self.index, self.rows.to(dtype))

    def _with_rows(self) -> Tensor:
        """`frozen` with the rows in it, in its own type. Rows that may be trained are written at every call,
        because a fused optimizer changes them without a trace; others only once."""
        assert self.frozen is not None
        now = (self.rows._version, self.rows.data_ptr())
        if self.rows.requires_grad or self._written != now:
            with torch.no_grad():
                self.frozen.index_copy_(0, self.index, self.rows.to(self.frozen.dtype))
            self._written = None if self.rows.requires_grad else now
        return self.frozen.detach()

    def forward(self, features: Tensor) -> Tensor:
        """The linear's answer, its tuned rows in place.

        Args: `features` (…, inputs) of any float dtype.

        Returns: (…, outputs) in the same dtype, or autocast's.
        """
        autocast = torch.is_autocast_enabled(features.device.type)
        if self.frozen is None:
            return linear(features, self.rows if autocast else self.rows.to(features.dtype), self.bias)
        bias: Tensor | None = self.bias
        if autocast:
            features = features.to(torch.get_autocast_dtype(features.device.type))
            bias = None if bias is None else bias.to(features.dtype)
        matrix: Matrix = partial(self._whole, features.dtype)
        if self.frozen.dtype in (features.dtype, self.rows.dtype):  # else it is made again, and costs no room
            matrix = partial(_same, matrix())
        output: Tensor = _RowTunedProduct.apply(features, self.rows, matrix, bias, self.index)
        return output

    def extra_repr(self) -> str:
        """As torch's, with the number of tuned rows."""
        return f"{self.in_features}, {self.out_features}, tuned={len(self.index)}"


def _same(weight: Tensor) -> Tensor:
    return weight


def as_linear(module: nn.Module) -> nn.Linear:
    """A linear as it is, or a Conv1D (whose weight is (inputs, outputs)) as a linear."""
    if isinstance(module, nn.Linear):
        return module
    assert isinstance(module, Conv1D)
    inputs, outputs = module.weight.shape
    made = nn.Linear(inputs, outputs, device="meta")
    made.weight = nn.Parameter(module.weight.detach().t().contiguous(), requires_grad=False)
    made.bias = nn.Parameter(module.bias.detach(), requires_grad=False)
    return made
