"""The engine that multiplies where it stands, on public data only: tests and benchmarks hold the masked one
against it. No enclave loads this."""

from __future__ import annotations

import torch

from enclave.masking.engine import LayerWork, QuantisedEngine, blocks
from enclave.masking.layers import Store, oriented


class UnmaskedEngine(QuantisedEngine):
    """Multiplies in this process, with all int8 weights in memory.

    No partial sum of q·wᵢ is larger than ‖q‖·‖wᵢ‖ either, so a float32 GEMM is exact for three limbs, and a
    float64 one for four.
    """

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._weights = {
            product.number: oriented(values, product)
            for layer in store.layers.values()
            for values in [store.read(layer)]
            for product in layer.products
        }

    def multiply(self, work: LayerWork) -> None:
        """See `QuantisedEngine.multiply`."""
        for product in work.products:
            kind = torch.float32 if product.limbs == 3 else torch.float64
            weight = self._weights[product.number].to(kind).t()
            for rows in blocks(len(work.features), product.inner):
                fixed, scale = self.quantise(work, product, rows)
                self.deliver(work, product, rows, (fixed.to(kind) @ weight).to(torch.int32), scale)
