"""Reading a pinned checkpoint a piece at a time.

The manifest pins whole files by SHA-256, and the files lie with the host. One pass over each file checks its
pin and on the way takes the SHA-256 of every piece (some rows) of every tensor in it; from then on a piece is
copied in alone and must have that hash. So the enclave never holds more than one beside what it wants, and no
host can swap one between the passes. Of a table that is read row by row (the token embeddings) the same pass
takes a tag of every row. Format: safetensors (8-byte little-endian header length, JSON header, raw tensors).
Runs inside the enclave, and at the site for the public front.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Iterator
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

    def take(self, rows: bytes) -> None:
        """The next rows of the table, in the pass that checks its file's pin."""
        with memoryview(rows) as view:
            for start in range(0, len(rows), self._size):
                self._tags += self._tag(view[start : start + self._size])

    def holds(self, number: int, row: bytes | memoryview) -> bool:
        """Whether this is row `number` as it was in that pass."""
        return self._tag(row) == self._tags[number * TAG_BYTES : (number + 1) * TAG_BYTES]

    def _tag(self, row: bytes | memoryview) -> bytes:
        return hashlib.blake2b(row, digest_size=TAG_BYTES, key=self._key).digest()


@dataclass(frozen=True)
class TensorPlace:
    """Where a tensor lies. `offset` is into the file; `hashes` are the SHA-256 of its pieces, each of `piece`
    bytes but the last. `rows` are the tags of its rows, for a table that is read row by row."""

    file: Path
    offset: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    piece: int
    hashes: tuple[bytes, ...]
    rows: RowTags | None = None


class ModelCheckpoint:
    """The tensors of some safetensors files, by their names in the checkpoint."""

    def __init__(self, files: dict[Path, str], table: str = "") -> None:
        """`files` maps each to its pinned SHA-256; the rows of a matrix whose name ends in `table` get
        tags.

        Raises: `model.file_missing`, `model.file_changed` or `model.unreadable`.
        """
        self.places: dict[str, TensorPlace] = {}
        for file, pin in files.items():
            self.places |= _survey(file, pin, table)

    def pieces(self, name: str) -> Iterator[Tensor]:
        """Copy one tensor in, some rows at a time, as it is.

        Returns: (rows, …) of the tensor at a time, in its own dtype.

        Raises: `slicing.tensor_changed`.
        """
        place = self.places[name]
        left = math.prod(place.shape) * place.dtype.itemsize
        with place.file.open("rb") as opened:
            opened.seek(place.offset)
            for expected in place.hashes:
                data = bytearray(min(left, place.piece))
                opened.readinto(data)
                if hashlib.sha256(data).digest() != expected:
                    raise Refusal("slicing.tensor_changed", name=name)
                left -= len(data)
                yield torch.frombuffer(data, dtype=place.dtype).view(-1, *place.shape[1:])

    def read(self, name: str, dtype: torch.dtype = torch.float32) -> Tensor:
        """Copy one tensor in.

        Returns: of the tensor's shape (…), as `dtype`.

        Raises: `slicing.tensor_changed`.
        """
        made, at = torch.empty(self.places[name].shape, dtype=dtype), 0
        for piece in self.pieces(name):
            made.view(-1)[at : at + piece.numel()] = piece.flatten()
            at += piece.numel()
        return made

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


def _survey(file: Path, pin: str, table: str) -> dict[str, TensorPlace]:
    """One pass: the hash of the file, of each piece of each tensor, and of each row of the table."""
    whole = hashlib.sha256()
    try:
        with file.open("rb") as opened:
            size = opened.read(8)
            length = int.from_bytes(size, "little")
            if length > MAX_HEADER_BYTES:
                raise Refusal("model.unreadable", task="any", fault=f"{file.name} is no safetensors file")
            header = opened.read(length)
            whole.update(size + header)
            places, at = {}, 0
            for name, line in _lines(header, file.name):
                start, stop = line.data_offsets
                whole.update(opened.read(start - at))
                hashes, rows, piece = [], _row_tags(name, line, table), _piece(line)
                for at in range(start, stop, piece):
                    data = opened.read(min(stop - at, piece))
                    if len(data) < min(stop - at, piece):
                        raise Refusal("model.file_changed", file=file.name)
                    whole.update(data)
                    hashes.append(hashlib.sha256(data).digest())
                    if rows is not None:
                        rows.take(data)
                at = stop
                if line.dtype in _TYPES:
                    dtype, offset = _TYPES[line.dtype], 8 + length + start
                    places[name] = TensorPlace(file, offset, line.shape, dtype, piece, tuple(hashes), rows)
            while data := opened.read(_BLOCK):
                whole.update(data)
    except OSError as error:
        raise Refusal("model.file_missing", file=file.name) from error
    if whole.hexdigest() != pin:
        raise Refusal("model.file_changed", file=file.name)
    return places


def _piece(line: _Line) -> int:
    """Bytes of whole rows, about _BLOCK of them."""
    start, stop = line.data_offsets
    row = max(1, (stop - start) // (line.shape[0] or 1)) if line.shape else max(1, stop - start)
    return row * max(1, _BLOCK // row)


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
