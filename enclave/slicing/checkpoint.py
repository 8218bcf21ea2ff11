"""Reading a pinned checkpoint one tensor at a time.

The manifest pins whole files by SHA-256, and the files lie with the host. One pass over each file checks its
pin and on the way takes the SHA-256 of every tensor in it; from then on a tensor is copied in alone and must
have that hash. So the enclave never holds more than one, and no host can swap one between the passes. Of a
table that is read row by row (the token embeddings) the same pass takes a tag of every row. Format:
safetensors (8-byte little-endian header length, JSON header, raw tensors). Runs inside the enclave.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import torch
from msgspec import Meta, Struct
from torch import Tensor

from contracts.refusal import Refusal

MAX_HEADER_BYTES = 64 << 20
_BLOCK = 1 << 20
TAG_BYTES = 16
_TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_OLD_NAMES = ((".gamma", ".weight"), (".beta", ".bias"))
"""Checkpoints from TensorFlow days call the two parameters of a LayerNorm so."""


class _Line(Struct, frozen=True):
    dtype: str
    shape: tuple[Annotated[int, Meta(ge=0)], ...]
    data_offsets: tuple[Annotated[int, Meta(ge=0)], Annotated[int, Meta(ge=0)]]


_HEADER, _LINE = msgspec.json.Decoder(dict[str, msgspec.Raw]), msgspec.json.Decoder(_Line)


class RowTags:
    """A tag of 16 bytes for each row of a table of `size` bytes a row: BLAKE2b (RFC 7693) under a key that
    was drawn here and never leaves, so nobody outside can look for another row with the same tag."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._key = os.urandom(32)
        self._tags = bytearray()
        self._begun = bytearray()

    def take(self, block: bytes) -> None:
        """The next bytes of the table, in the pass that checks its file's pin."""
        self._begun += block
        whole = len(self._begun) // self._size * self._size
        with memoryview(self._begun) as view:
            for start in range(0, whole, self._size):
                self._tags += self._tag(view[start : start + self._size])
        del self._begun[:whole]

    def holds(self, number: int, row: bytes | memoryview) -> bool:
        """Whether this is row `number` as it was in that pass."""
        return self._tag(row) == self._tags[number * TAG_BYTES : (number + 1) * TAG_BYTES]

    def _tag(self, row: bytes | memoryview) -> bytes:
        return hashlib.blake2b(row, digest_size=TAG_BYTES, key=self._key).digest()


@dataclass(frozen=True)
class Place:
    """Where a tensor lies, and its SHA-256. `offset` is into the file. `rows` are the tags of its rows, for a
    table that is read row by row."""

    file: Path
    offset: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    sha256: str
    rows: RowTags | None = None


class Checkpoint:
    """The tensors of some safetensors files, by their names in the checkpoint."""

    def __init__(self, files: dict[Path, str], table: str = "") -> None:
        """`files` maps each to its pinned SHA-256; the rows of a matrix whose name ends in `table` get tags.
        Refuses with `model.file_missing`, `model.file_changed` or `model.unreadable`."""
        self.places: dict[str, Place] = {}
        for file, pin in files.items():
            self.places |= _survey(file, pin, table)

    def read(self, name: str) -> Tensor:
        """Copy one tensor in, as float32. Refuses with `slicing.tensor_changed`."""
        place = self.places[name]
        size = math.prod(place.shape) * torch.empty((), dtype=place.dtype).element_size()
        data = bytearray(size)
        with place.file.open("rb") as opened:
            opened.seek(place.offset)
            opened.readinto(data)
        if hashlib.sha256(data).hexdigest() != place.sha256:
            raise Refusal("slicing.tensor_changed", name=name)
        return torch.frombuffer(data, dtype=place.dtype).view(place.shape).float()

    def match(self, wanted: Iterable[str], prefix: str) -> dict[str, str]:
        """Names in a model -> names here. A checkpoint of the bare backbone lacks `prefix.`, one of a larger
        model has it; names without a match are left out."""
        here = {}
        for name in self.places:
            new = name
            for old, modern in _OLD_NAMES:
                new = new.removesuffix(old) + modern if new.endswith(old) else new
            here[new] = name
        found = {}
        for name in wanted:
            for candidate in (name, name.removeprefix(f"{prefix}."), f"{prefix}.{name}"):
                if candidate in here:
                    found[name] = here[candidate]
                    break
        return found


def _survey(file: Path, pin: str, table: str) -> dict[str, Place]:
    """One pass: the hash of the file, of each tensor's bytes, and of each row of the table."""
    whole = hashlib.sha256()
    try:
        with file.open("rb") as opened:
            size = opened.read(8)
            length = int.from_bytes(size, "little")
            if length > MAX_HEADER_BYTES:
                raise Refusal("model.unreadable", task="any", fault=f"{file.name} is no safetensors file")
            header = opened.read(length)
            whole.update(size + header)
            lines = _lines(header, file.name)
            places, at = {}, 0
            for name, line in lines:
                start, stop = line.data_offsets
                whole.update(opened.read(start - at))
                hashed, rows = hashlib.sha256(), _row_tags(name, line, table)
                left = stop - start
                while left:
                    block = opened.read(min(left, _BLOCK))
                    if not block:
                        raise Refusal("model.file_changed", file=file.name)
                    whole.update(block)
                    hashed.update(block)
                    if rows is not None:
                        rows.take(block)
                    left -= len(block)
                at = stop
                if line.dtype in _TYPES:
                    dtype, offset = _TYPES[line.dtype], 8 + length + start
                    places[name] = Place(file, offset, line.shape, dtype, hashed.hexdigest(), rows)
            while block := opened.read(_BLOCK):
                whole.update(block)
    except OSError as error:
        raise Refusal("model.file_missing", file=file.name) from error
    if whole.hexdigest() != pin:
        raise Refusal("model.file_changed", file=file.name)
    return places


def _row_tags(name: str, line: _Line, table: str) -> RowTags | None:
    """For a matrix with at least one column whose name ends in `table`."""
    if not table or not f".{name}".endswith(f".{table}") or line.dtype not in _TYPES:
        return None
    if len(line.shape) != 2 or not line.shape[1]:
        return None
    return RowTags(line.shape[1] * _TYPES[line.dtype].itemsize)


def _lines(header: bytes, file: str) -> list[tuple[str, _Line]]:
    """The header's tensors in the order of their bytes, which may not overlap."""
    try:
        raw = _HEADER.decode(header)
        raw.pop("__metadata__", None)
        lines = [(name, _LINE.decode(line)) for name, line in raw.items()]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal("model.unreadable", task="any", fault=f"the header of {file}") from error
    lines.sort(key=lambda pair: pair[1].data_offsets)
    at = 0
    for _, line in lines:
        start, stop = line.data_offsets
        size = math.prod(line.shape) * _TYPES[line.dtype].itemsize if line.dtype in _TYPES else stop - start
        if not at <= start <= stop or stop - start != size:
            raise Refusal("model.unreadable", task="any", fault=f"the offsets in {file}")
        at = stop
    return lines
