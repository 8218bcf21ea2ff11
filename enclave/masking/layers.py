"""Frozen layers as the enclave knows them, and the public file of int8 weights that lies outside.

A frozen layer is one linear map or several with the same input (q/k/v, gate/up), which then are one request
to the accelerator. The enclave keeps scales, biases and the SHA-256 of the int8 weights; the weights
themselves lie in the store, a folder of the host, where the accelerator maps them. The enclave copies in
one layer at a time, hashes what it copied, uses it and drops it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import torch
from msgspec import Meta, Struct
from torch import Tensor

from contracts.refusal import Refusal
from enclave.masking.fixed_point import InnerPart, Weight, fix_weight, parts
from enclave.masking.residues import WIDTHS

WEIGHTS, INDEX = "weights.int8", "layers.json"
Direction = Literal["forward", "backward"]


class StoredWeights(Struct, frozen=True, forbid_unknown_fields=True):
    """Where a layer's int8 weights (outputs, inputs) lie in the store's file."""

    name: str
    offset: Annotated[int, Meta(ge=0, lt=2**53)]
    outputs: Annotated[int, Meta(ge=1, lt=2**31)]
    inputs: Annotated[int, Meta(ge=1, lt=2**31)]


class Product(Struct, frozen=True, forbid_unknown_fields=True):
    """One integer product: a part of a layer's direction. `number` is unique in the model, and stands for
    (layer, direction) in mask indices and on the wire. Its weights are (outer, inner), its residues have
    `limbs` bytes, and no row of integers that goes into it has Σq² above `most`."""

    number: Annotated[int, Meta(ge=0, lt=2**24)]
    layer: str
    direction: Direction
    start: Annotated[int, Meta(ge=0, lt=2**31)]
    stop: Annotated[int, Meta(ge=1, lt=2**31)]
    outer: Annotated[int, Meta(ge=1, lt=2**31)]
    limbs: Annotated[int, Meta(ge=3, le=4)]
    most: Annotated[int, Meta(ge=1, lt=2**62)]

    @property
    def inner(self) -> int:
        return self.stop - self.start


class StoreIndex(Struct, frozen=True, forbid_unknown_fields=True):
    """The store's index."""

    layers: list[StoredWeights]
    products: list[Product]


@dataclass(frozen=True)
class FrozenLayer:
    """`scale` (outputs,) float32; `sha256` of the int8 weights in row-major order."""

    index: int
    name: str
    outputs: int
    inputs: int
    scale: Tensor
    sha256: str
    forward: tuple[Product, ...]
    backward: tuple[Product, ...]

    @property
    def products(self) -> tuple[Product, ...]:
        return self.forward + self.backward


def oriented(values: Tensor, product: Product) -> Tensor:
    """A layer's weights as the product takes them.

    Args: `values` (outputs, inputs) int8.

    Returns: (outer, inner) int8, contiguous.
    """
    turned = values if product.direction == "forward" else values.t()
    return turned[:, product.start : product.stop].contiguous()


class Store:
    """The folder with the public int8 weights. `add` and `read` run inside the enclave; the folder is the
    host's, so nothing read from it is believed before its hash is. `widths` are the bytes that residues may
    have (benchmarks compare)."""

    def __init__(self, folder: Path, widths: Sequence[int] = WIDTHS) -> None:
        self.folder = folder
        self._widths = widths
        self.layers: dict[str, FrozenLayer] = {}
        self._entries: list[StoredWeights] = []
        self._products: list[Product] = []
        folder.mkdir(parents=True, exist_ok=True)
        (folder / WEIGHTS).write_bytes(b"")

    def add(self, name: str, weight: Iterable[Tensor], outputs: int) -> FrozenLayer:
        """Make a frozen layer; write its int8 weights out, keep their hash.

        Args: `weight` (outputs, inputs) float, some rows at a time.

        Raises: `masking.bad_weight`.
        """
        fixed = fix_weight(weight, outputs)
        data = fixed.values.numpy().data
        offset = self._entries[-1].offset + size(self._entries[-1]) if self._entries else 0
        with (self.folder / WEIGHTS).open("ab") as file:
            file.write(data)
        outputs, inputs = fixed.values.shape
        self._entries.append(StoredWeights(name, offset, outputs, inputs))
        layer = self._describe(name, fixed, hashlib.sha256(data).hexdigest())
        self.layers[name] = layer
        return layer

    def finish(self) -> None:
        """Write the index that the accelerator reads."""
        (self.folder / INDEX).write_bytes(msgspec.json.encode(StoreIndex(self._entries, self._products)))

    def read(self, layer: FrozenLayer) -> Tensor:
        """Copy one layer's weights in.

        Returns: (outputs, inputs) int8.

        Raises: `masking.weights_changed`.
        """
        entry = self._entries[layer.index]
        data = bytearray(size(entry))
        with (self.folder / WEIGHTS).open("rb") as file:
            file.seek(entry.offset)
            read = file.readinto(data)
        if read != len(data) or hashlib.sha256(data).hexdigest() != layer.sha256:
            raise Refusal("masking.weights_changed", layer=layer.name)
        return torch.frombuffer(data, dtype=torch.int8).view(entry.outputs, entry.inputs)

    def _describe(self, name: str, fixed: Weight, sha256: str) -> FrozenLayer:
        outputs, inputs = fixed.values.shape
        forward = self._number(name, "forward", outputs, parts(fixed.values, self._widths))
        backward = self._number(name, "backward", inputs, parts(fixed.values.t(), self._widths))
        return FrozenLayer(
            len(self.layers), name, outputs, inputs, fixed.scale.clone(), sha256, forward, backward
        )

    def _number(
        self, name: str, direction: Direction, outer: int, pieces: Sequence[InnerPart]
    ) -> tuple[Product, ...]:
        first = len(self._products)
        products = tuple(
            Product(first + i, name, direction, p.start, p.stop, outer, p.limbs, p.most)
            for i, p in enumerate(pieces)
        )
        self._products += products
        return products


def size(entry: StoredWeights) -> int:
    """Bytes of a layer's int8 weights."""
    return entry.outputs * entry.inputs
