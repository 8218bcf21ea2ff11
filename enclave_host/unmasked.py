"""The engine that multiplies where it stands, and models that are cut in memory, on public data only: tests
and benchmarks hold the masked one against it. No enclave loads this."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from contracts.manifest import Lora, ModelSpec, Prefix
from enclave.masking.engine import LayerWork, QuantisedEngine, blocks
from enclave.masking.layers import INDEX, FrozenLayer, Store, frozen_layers, oriented
from enclave.masking.residues import WIDTHS
from enclave.slicing.cut import Cut, cut, give_vectors, open_cut
from enclave.slicing.hollow import HollowBase
from enclave.slicing.prepared import open_prepared
from enclave.slicing.split import Tail
from enclave_host.preparing.preparation import add_layer, prepare, shared_inputs
from enclave_host.preparing.store_writer import StoreWriter


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


class WrittenStore(Store):
    """A store that is written here, layer after layer. `widths` are the bytes that residues may have
    (benchmarks compare)."""

    def __init__(self, folder: Path, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__(folder, {})
        self.writer = StoreWriter(folder, widths)

    def add(self, name: str, weight: Iterable[Tensor], outputs: int) -> FrozenLayer:
        """See `StoreWriter.add`; an accelerator that is started now knows the layer."""
        self.writer.add(name, weight, outputs)
        self.refresh()
        return self.layers[name]

    def refresh(self) -> None:
        """Take over what the writer has written."""
        self.layers |= frozen_layers(self.writer.layers, self.writer.scales)
        (self.folder / INDEX).write_bytes(msgspec.json.encode({"layers": self.writer.layers}))


def cut_in_memory(
    model: PreTrainedModel, adapter: Lora | Prefix, seed: int, store: WrittenStore, tail: Tail | None = None
) -> Cut:
    """`slicing.cut.cut` of a model whose weights and embedding vectors are its own.

    Raises: as `cut`.
    """
    for layer in shared_inputs(model):
        add_layer(store.writer, layer, lambda name: (model.get_parameter(name).detach(),))
    store.refresh()
    if tail is None:
        give_vectors(model, TableVectors)
    return cut(model, adapter, seed, store, tail)


@dataclass(frozen=True)
class Opened:
    """A cut base model with its adapter, and its tokenizer."""

    cut: Cut
    tokenizer: PreTrainedTokenizerBase


def prepare_and_open(
    folder: Path, spec: ModelSpec, adapter: Lora | Prefix, seed: int, into: Path, first: int = 0
) -> Opened:
    """Prepare the base model in `folder` that `spec` pins, into the new folder `into`, and cut it, as a host
    and its enclave do it one after the other.

    Raises: as `prepare`, `open_prepared` and `open_cut`.
    """
    pin = prepare(folder, spec.files, spec.task, into)
    base = HollowBase(folder, spec)
    return Opened(open_cut(base, open_prepared(into, pin), adapter, seed, first), base.tokenizer)


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
