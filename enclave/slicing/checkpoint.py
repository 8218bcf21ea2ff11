"""Reading a pinned checkpoint a piece at a time.

The manifest pins whole files by SHA-256, and the files lie with the host. One pass over each file checks its
pin and on the way takes the SHA-256 of every piece (some rows) of every tensor in it; from then on a piece is
copied in alone and must have that hash. So the enclave never holds more than one beside what it wants, and no
host can swap one between the passes. Of a table that is read row by row (the token embeddings) the pieces are
single rows. Format: safetensors (8-byte little-endian header length, JSON header, raw tensors).
Runs inside the enclave, and at the site for the public front.
"""

from __future__ import annotations

import hashlib
import math
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
HASH_BYTES = 32
_TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_OLD_NAMES = ((".gamma", ".weight"), (".beta", ".bias"))
"""Checkpoints from TensorFlow days call the two parameters of a LayerNorm so."""


class _Line(Struct, frozen=True):
    dtype: str
    shape: tuple[Annotated[int, Meta(ge=0)], ...]
    data_offsets: tuple[Annotated[int, Meta(ge=0)], Annotated[int, Meta(ge=0)]]


_HEADER, _LINE = msgspec.json.Decoder(dict[str, msgspec.Raw]), msgspec.json.Decoder(_Line)


@dataclass(frozen=True)
class TensorPlace:
    """Where a tensor lies. `offset` is into the file; `hashes` are the SHA-256 of its pieces, one after the
    other, each of `piece` bytes but the last. Of a table that is read row by row each row is a piece."""

    file: Path
    offset: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    piece: int
    hashes: bytes

    def holds(self, number: int, data: bytes | memoryview) -> bool:
        """Whether this is piece `number` as it was in the pass that checked its file's pin."""
        return hashlib.sha256(data).digest() == self.hashes[number * HASH_BYTES : (number + 1) * HASH_BYTES]


class ModelCheckpoint:
    """The tensors of some safetensors files, by their names in the checkpoint."""

    def __init__(self, files: dict[Path, str], table: str = "") -> None:
        """`files` maps each to its pinned SHA-256; a matrix whose name ends in `table` is hashed row by
        row.

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
        left, number = math.prod(place.shape) * place.dtype.itemsize, 0
        with place.file.open("rb") as opened:
            opened.seek(place.offset)
            while left:
                data = bytearray(min(left, _at_once(place.piece)))
                opened.readinto(data)
                for piece in _cut_up(data, place.piece):
                    if not place.holds(number, piece):
                        raise Refusal("slicing.tensor_changed", name=name)
                    number += 1
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
            start_of_file = opened.read(8)
            length = int.from_bytes(start_of_file, "little")
            if length > MAX_HEADER_BYTES:
                raise Refusal("model.unreadable", task="any", fault=f"{file.name} is no safetensors file")
            header = opened.read(length)
            whole.update(start_of_file + header)
            places, at = {}, 0
            for name, line in _lines(header, file.name):
                start, stop = line.data_offsets
                whole.update(opened.read(start - at))
                by_rows = table and f".{name}".endswith(f".{table}")
                hashes, at, piece = bytearray(), start, _row(line) if by_rows else _at_once(_row(line))
                while at < stop:
                    data = opened.read(size := min(stop - at, _at_once(piece)))
                    if len(data) < size:
                        raise Refusal("model.file_changed", file=file.name)
                    whole.update(data)
                    hashes += b"".join(hashlib.sha256(part).digest() for part in _cut_up(data, piece))
                    at += len(data)
                if line.dtype in _TYPES:
                    dtype, offset = _TYPES[line.dtype], 8 + length + start
                    places[name] = TensorPlace(file, offset, line.shape, dtype, piece, bytes(hashes))
            while data := opened.read(_BLOCK):
                whole.update(data)
    except OSError as error:
        raise Refusal("model.file_missing", file=file.name) from error
    if whole.hexdigest() != pin:
        raise Refusal("model.file_changed", file=file.name)
    return places


def _row(line: _Line) -> int:
    """Bytes of a row, and of what has none all of it."""
    start, stop = line.data_offsets
    return max(1, (stop - start) // (line.shape[0] or 1) if line.shape else stop - start)


def _at_once(piece: int) -> int:
    """Bytes of whole pieces, about _BLOCK of them."""
    return piece * max(1, _BLOCK // piece)


def _cut_up(data: bytes | bytearray, piece: int) -> Iterator[memoryview]:
    view = memoryview(data)
    return (view[start : start + piece] for start in range(0, len(view), piece))


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
