"""Engines: who multiplies the frozen layers of a cut model, and what the multiplication costs.

`QuantisedEngine` holds the fixed-point arithmetic around an exact integer product. `UnmaskedEngine` computes
that product with the weights at hand: it is the measure for the masked one, and serves public data only.
`MaskedEngine` (enclave/masking/masked.py) has it computed outside. Both products are exact, so both engines
give the same bits. Runs inside the enclave.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from enclave.masking.fixed_point import fix
from enclave.masking.layers import FrozenLayer, Product, Store, oriented
from enclave.masking.ring import Limbs, Method, reference, to_words


class QuantisedEngine(ABC):
    """Both directions of a frozen linear layer, over an exact integer product."""

    def enter_step(self) -> None:  # noqa: B027  # one that keeps no count of steps need not do anything
        """A forward pass begins; the backward pass that follows belongs to the same step."""

    def forward(self, layer: FrozenLayer, features: Tensor) -> Tensor:
        """(rows, inputs) float32 -> (rows, outputs) float32: features · Wᵀ, without bias."""
        product, scale = self._sum(layer.forward, features)
        return product.mul_(scale).mul_(layer.scale)

    def backward(self, layer: FrozenLayer, gradient: Tensor) -> Tensor:
        """(rows, outputs) float32 -> (rows, inputs) float32: gradient · W."""
        product, scale = self._sum(layer.backward, gradient * layer.scale)
        return product.mul_(scale)

    @abstractmethod
    def exact(self, product: Product, fixed: Tensor) -> Tensor:
        """(rows, inner) int32 of `product.bits` bits -> (rows, outer) int32: the exact integer product."""

    def _sum(self, products: Sequence[Product], features: Tensor) -> tuple[Tensor, Tensor]:
        fixed, scale = fix(features, products[0].bits)
        if len(products) == 1:
            return self.exact(products[0], fixed).float(), scale
        total: Tensor | None = None
        for product in products:  # parts of a wide inner dimension; their sum can pass 32 bits
            piece = self.exact(product, fixed[:, product.start : product.stop]).to(torch.int64)
            total = piece if total is None else total.add_(piece)
        assert total is not None
        return total.float(), scale


class UnmaskedEngine(QuantisedEngine):
    """Multiplies in this process, with all int8 weights in memory."""

    def __init__(self, store: Store, method: Method = "limbs") -> None:
        self._weights = {
            product.number: oriented(values, product)
            for layer in store.layers.values()
            for values in [store.read(layer)]
            for product in layer.products
        }
        self._multiply = Limbs().multiply if method == "limbs" else reference

    def exact(self, product: Product, fixed: Tensor) -> Tensor:
        """See `QuantisedEngine.exact`."""
        return self._multiply(to_words(fixed.contiguous()), self._weights[product.number])
