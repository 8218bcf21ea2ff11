"""A prepared model: what a masked slice needs of its base model's weights, by one hash in the manifest.

Preparing is a public function of the base model's pinned files and the task. Every hospital's agent computes
it for itself (enclave_host/preparing), and hands the folder in:

    index.json      `PreparedIndex`; the manifest pins its SHA-256
    inside.bin      float32 values of all that stays inside, one after the other, then the SHA-256 of each row
                    of the table of token embeddings; the index has the hash of the file
    weights.int8    the frozen layers (`masking.layers`); the index has the hash of each
    table.bin       the rows of that table, as the base model has them

Everything is copied in once and hashed as it lies there, and nothing else is believed: that the index is the
right one makes no module of an unlisted class run inside, and leaves no frozen layer in (`slicing.cut`).
Runs inside the enclave.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import torch
from msgspec import Struct, UnsetType
from torch import Tensor
from transformers import PreTrainedModel

from contracts.architecture.family import Architecture
from contracts.policy import Hex32
from contracts.refusal import Refusal
from enclave.masking.layers import INDEX, Store, StoredLayer, Width, frozen_layers
from enclave.slicing.adapters import head_modules
from enclave.slicing.embeddings import FileVectors
from enclave.slicing.hollow import draw_lacking, put_value

INSIDE, TABLE = "inside.bin", "table.bin"


class PreparedIndex(Struct, frozen=True, forbid_unknown_fields=True):
    """See above. `values` are the shapes of what lies in inside.bin, in that order: scales by the names of
    their layers, parameters by theirs. `table` is how numbers lie in table.bin."""

    layers: tuple[StoredLayer, ...]
    values: dict[str, tuple[Width, ...]]
    inside: Hex32
    table: Literal["float64", "float32", "float16", "bfloat16"]


@dataclass(frozen=True)
class PreparedModel:
    """`values` by their names in the model; `hashes` of the rows of the table, one after the other."""

    store: Store
    values: dict[str, Tensor]
    table: torch.dtype
    hashes: bytes

    def fill(self, model: PreTrainedModel, architecture: Architecture) -> None:
        """Give storage and values to what stays inside: what has one dimension, small tables, and the head,
        which is drawn where the base model has none.

        Raises: `slicing.missing_tensor`.
        """
        head, lacking = tuple(f"{root}." for root in head_modules(model)), False
        for name, parameter in list(model.named_parameters()):
            path, _, key = name.rpartition(".")
            in_head = name.startswith(head)
            if in_head or parameter.dim() < 2 or path.rpartition(".")[2] in architecture.tables:
                value = self.values.get(name)
                if value is None or value.shape != parameter.shape:
                    if not in_head:
                        raise Refusal("slicing.missing_tensor", name=name[:200])
                    value, lacking = None, True
                put_value(model.get_submodule(path), key, value)
        if lacking:
            draw_lacking(model)

    def vectors(self, table: Tensor) -> FileVectors:
        """The rows of the table of token embeddings.

        Args: `table` (tokens, size) float32, of which only the shape is looked at.
        """
        return FileVectors(self.store.folder / TABLE, 0, tuple(table.shape), self.table, self.hashes)


def open_prepared(folder: Path, pin: str | UnsetType) -> PreparedModel:
    """The prepared model in `folder`, whose index has the hash `pin`; without one, none is right.

    Raises: `masking.prepared_differs`, or `masking.bad_prepared` for what no preparing writes.
    """
    try:
        index = msgspec.json.decode(_copied(folder / INDEX, pin), type=PreparedIndex)
        data, values, at = _copied(folder / INSIDE, index.inside), {}, 0
        for name, shape in index.values.items():
            flat = torch.frombuffer(data, dtype=torch.float32, count=math.prod(shape), offset=at)
            values[name], at = flat.view(shape).clone(), at + flat.nbytes
        layers = frozen_layers(index.layers, values)
    except (OSError, ValueError, KeyError, RecursionError, msgspec.DecodeError) as error:
        raise Refusal("masking.bad_prepared", fault=type(error).__name__) from error
    return PreparedModel(Store(folder, layers), values, getattr(torch, index.table), bytes(data[at:]))


def _copied(file: Path, sha256: str | UnsetType) -> bytearray:
    data = bytearray(file.read_bytes())
    if hashlib.sha256(data).hexdigest() != sha256:
        raise Refusal("masking.prepared_differs", file=file.name)
    return data
