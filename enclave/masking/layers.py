"""Frozen layers as the enclave knows them, and the public file of int8 weights that lies outside.

A frozen layer is one linear map or several with the same input (q/k/v, gate/up), which then are one request
to the accelerator. The enclave keeps scales, biases and the SHA-256 of the int8 weights; the weights
themselves lie in the store, a folder of the host, where the accelerator maps them. The enclave copies in
one layer at a time, hashes what it copied, uses it and drops it. Where a layer lies, and the numbers of its
products, follow from the order of the layers: nobody states them, so that nobody can state them wrongly."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isqrt, sqrt
from pathlib import Path
from typing import Annotated, Literal

import torch
from msgspec import Meta, Struct
from torch import Tensor

from contracts.policy import Hex32
from contracts.refusal import Refusal
from enclave.masking.fixed_point import MAX_INNER, MAX_NORM, MIN_SIZE

WEIGHTS, INDEX = "weights.int8", "index.json"
Direction = Literal["forward", "backward"]
Width = Annotated[int, Meta(ge=1, lt=2**31)]
Most = Annotated[int, Meta(ge=1, le=MAX_NORM**2)]


class Parts(Struct, frozen=True, forbid_unknown_fields=True):
    """How the inner dimension of a direction is split: into parts of `step` (the last may be shorter), for
    residues of `limbs` bytes; `most` of each part is the most that Σq² of a row of integers may be in it."""

    limbs: Annotated[int, Meta(ge=3, le=4)]
    step: Annotated[int, Meta(ge=1, le=MAX_INNER)]
    most: tuple[Most, ...]


class StoredLayer(Struct, frozen=True, forbid_unknown_fields=True):
    """A layer of the store: its int8 weights (outputs, inputs) lie behind those of the layer before, and have
    this SHA-256. `name` has the members' places in the model, with + between them."""

    name: str
    outputs: Width
    inputs: Width
    sha256: Hex32
    forward: Parts
    backward: Parts


@dataclass(frozen=True)
class Product:
    """One integer product: a part of a layer's direction. `number` is unique in the model, and stands for
    (layer, direction) in mask indices and on the wire. Its weights are (outer, inner), its residues have
    `limbs` bytes, and no row of integers that goes into it has Σq² above `most`."""

    number: int
    layer: str
    direction: Direction
    start: int
    stop: int
    outer: int
    limbs: int
    most: int

    @property
    def inner(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class FrozenLayer:
    """`offset` is that of its weights in the store's file; `scale` (outputs,) float32; `sha256` of the int8
    weights in row-major order."""

    name: str
    offset: int
    outputs: int
    inputs: int
    scale: Tensor
    sha256: str
    forward: tuple[Product, ...]
    backward: tuple[Product, ...]

    @property
    def products(self) -> tuple[Product, ...]:
        return self.forward + self.backward


def frozen_layers(stored: Iterable[StoredLayer], scales: Mapping[str, Tensor]) -> dict[str, FrozenLayer]:
    """The layers of a store, by name.

    Args: `scales` (outputs,) float32 by the layers' names, each above zero.

    Raises: `masking.bad_prepared`; KeyError for a layer without scales.
    """
    made: dict[str, FrozenLayer] = {}
    offset = number = 0
    for layer in stored:
        scale = scales[layer.name]
        if scale.shape != (layer.outputs,) or not bool(((scale > 0) & scale.isfinite()).all()):
            raise Refusal("masking.bad_prepared", fault=f"the scales of {layer.name[:200]}")
        forward = _products(layer, "forward", number)
        backward = _products(layer, "backward", number + len(forward))
        size = layer.outputs, layer.inputs
        made[layer.name] = FrozenLayer(layer.name, offset, *size, scale, layer.sha256, forward, backward)
        offset, number = offset + layer.outputs * layer.inputs, number + len(forward) + len(backward)
    return made


def _products(layer: StoredLayer, direction: Direction, number: int) -> tuple[Product, ...]:
    forward = direction == "forward"
    outer, inner = (layer.outputs, layer.inputs) if forward else (layer.inputs, layer.outputs)
    parts = layer.forward if forward else layer.backward
    ranges = [(at, min(at + parts.step, inner)) for at in range(0, inner, parts.step)[: len(parts.most) + 1]]
    fit = (isqrt(m) >= MIN_SIZE * sqrt(end - at) for (at, end), m in zip(ranges, parts.most, strict=False))
    if len(ranges) != len(parts.most) or not all(fit):
        raise Refusal("masking.bad_prepared", fault=f"the parts of {layer.name[:200]}")
    return tuple(
        Product(number + i, layer.name, direction, *ranges[i], outer, parts.limbs, most)
        for i, most in enumerate(parts.most)
    )


def oriented(values: Tensor, product: Product) -> Tensor:
    """A layer's weights as the product takes them.

    Args: `values` (outputs, inputs) int8.

    Returns: (outer, inner) int8, contiguous.
    """
    turned = values if product.direction == "forward" else values.t()
    return turned[:, product.start : product.stop].contiguous()


@dataclass
class Store:
    """The folder with the public int8 weights, and layers of them. It is the host's: nothing read from it is
    believed before its hash is."""

    folder: Path
    layers: dict[str, FrozenLayer]

    def read(self, layer: FrozenLayer) -> Tensor:
        """Copy one layer's weights in.

        Returns: (outputs, inputs) int8.

        Raises: `masking.weights_changed`.
        """
        data = bytearray(layer.outputs * layer.inputs)
        with (self.folder / WEIGHTS).open("rb") as file:
            file.seek(layer.offset)
            read = file.readinto(data)
        if read != len(data) or hashlib.sha256(data).hexdigest() != layer.sha256:
            raise Refusal("masking.weights_changed", layer=layer.name)
        return torch.frombuffer(data, dtype=torch.int8).view(layer.outputs, layer.inputs)
