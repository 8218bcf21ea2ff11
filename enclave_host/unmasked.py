"""The engine that multiplies where it stands, and models that are cut in memory, on public data only: tests
and benchmarks hold the masked one against it. No enclave loads this."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from contracts.manifest import Lora, Prefix
from enclave.masking.engine import LayerWork, QuantisedEngine, blocks
from enclave.masking.layers import Store, oriented
from enclave.slicing.architectures import architecture_of
from enclave.slicing.cut import Cut, cut, token_table
from enclave.slicing.split import Tail


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


def cut_in_memory(
    model: PreTrainedModel, adapter: Lora | Prefix, seed: int, store: Store, tail: Tail | None = None
) -> Cut:
    """`slicing.cut.cut` of a model whose weights and embedding vectors are its own.

    Raises: as `cut`.
    """
    vectors = None if tail is not None else TableVectors(token_table(model, architecture_of(model)).weight)
    return cut(model, adapter, seed, store, lambda name: (model.get_parameter(name).detach(),), vectors, tail)


class TableVectors:
    """Vectors from a table in memory: for models that were built in memory."""

    def __init__(self, table: Tensor) -> None:
        self._table = table.detach().float()
        self.size = table.shape[1]

    def gather(self, ids: Tensor) -> Tensor:
        """See `Vectors.gather`.

        Args: `ids` (n,) int64.

        Returns: (n, size) float32.
        """
        return self._table[ids]
