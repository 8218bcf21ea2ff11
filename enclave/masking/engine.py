"""Engines: who multiplies the frozen layers of a cut model, and what the multiplication costs.

`QuantisedEngine` holds the fixed-point arithmetic around an exact integer product. `MaskedEngine`
(enclave/masking/masked.py) has that product computed outside; `UnmaskedEngine` (enclave_host/unmasked.py)
computes it with the weights at hand, for comparison. Both are exact, so both engines give the same bits.
Features pass through in blocks of rows that stay in a cache. Runs inside the enclave.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from enclave.masking.fixed_point import quantise
from enclave.masking.layers import FrozenLayer, Product
from enclave.masking.residues import Buffers

BLOCK = 1 << 17
"""Numbers of a block. With half as many, twice the calls cost a tenth of a step of hidden size 384."""


@dataclass(frozen=True)
class LayerWork:
    """A direction of a layer: (rows, inner) `features`, times `scale_in` (inner,), in `products`, the parts
    of the inner dimension; what they give is added up, times `scale_out` (outer,), in `result` (rows,
    outer)."""

    products: tuple[Product, ...]
    features: Tensor
    scale_in: Tensor | None
    scale_out: Tensor | None
    result: Tensor


class QuantisedEngine(ABC):
    """Both directions of a frozen linear layer, over an exact integer product."""

    def __init__(self) -> None:
        self._buffers = Buffers()

    def enter_step(self) -> None:  # noqa: B027  # one that keeps no count of steps need not do anything
        """A forward pass begins; the backward pass that follows belongs to the same step."""

    def forward(self, layer: FrozenLayer, features: Tensor) -> Tensor:
        """features · Wᵀ, without bias.

        Args: `features` (rows, inputs) float32.

        Returns: (rows, outputs) float32.
        """
        return self._multiplied(layer.forward, features, None, layer.scale)

    def backward(self, layer: FrozenLayer, gradient: Tensor) -> Tensor:
        """gradient · W.

        Args: `gradient` (rows, outputs) float32.

        Returns: (rows, inputs) float32.
        """
        return self._multiplied(layer.backward, gradient, layer.scale, None)

    @abstractmethod
    def multiply(self, work: LayerWork) -> None:
        """Fill `work.result`, with `quantise` and `deliver`."""

    def quantise(self, work: LayerWork, product: Product, rows: slice) -> tuple[Tensor, Tensor]:
        """The product's integers for some rows, and their scales.

        Returns: as `fixed_point.quantise`: (rows, inner) int32 and (rows, 1) float32.
        """
        return quantise(self.features(work, product, rows), product.most, self._buffers)

    def features(self, work: LayerWork, product: Product, rows: slice) -> Tensor:
        """What the product multiplies.

        Returns: (rows, inner) float32.
        """
        columns = slice(product.start, product.stop)
        features = work.features[rows, columns]
        if work.scale_in is not None:
            scaled = self._buffers.take("scaled", tuple(features.shape), torch.float32)
            features = torch.mul(features, work.scale_in[columns], out=scaled)
        return features

    def deliver(self, work: LayerWork, product: Product, rows: slice, exact: Tensor, scale: Tensor) -> None:
        """Add what a product gave to the result.

        Args: `exact` (rows, outer) int32; `scale` (rows, 1) float32.
        """
        first, target = product is work.products[0], work.result[rows]
        given = target if first else self._buffers.take("given", tuple(exact.shape), torch.float32)
        torch.mul(exact, scale, out=given)
        if work.scale_out is not None:
            given.mul_(work.scale_out)
        if not first:
            target.add_(given)

    def _multiplied(
        self,
        products: tuple[Product, ...],
        features: Tensor,
        scale_in: Tensor | None,
        scale_out: Tensor | None,
    ) -> Tensor:
        result = torch.empty(len(features), products[0].outer)
        self.multiply(LayerWork(products, features, scale_in, scale_out, result))
        return result


def blocks(rows: int, columns: int) -> Iterator[slice]:
    """Some rows at a time, so that a block of so many columns stays in a cache."""
    size = max(1, BLOCK // columns)
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))
