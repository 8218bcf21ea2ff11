"""Reading a pinned checkpoint one tensor at a time.

The manifest pins whole files by SHA-256, and the files lie with the host. One pass over each file checks its
pin and on the way takes the SHA-256 of every tensor in it; from then on a tensor is copied in alone and must
have that hash. So the enclave never holds more than one, and no host can swap one between the passes. Format:
safetensors (8-byte little-endian header length, JSON header, raw tensors). Runs inside the enclave.
"""

from __future__ import annotations

import hashlib
import math
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
_TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_OLD_NAMES = ((".gamma", ".weight"), (".beta", ".bias"))
"""Checkpoints from TensorFlow days call the two parameters of a LayerNorm so."""


class _Line(Struct, frozen=True):
    dtype: str
    shape: tuple[Annotated[int, Meta(ge=0)], ...]
    data_offsets: tuple[Annotated[int, Meta(ge=0)], Annotated[int, Meta(ge=0)]]


_HEADER, _LINE = msgspec.json.Decoder(dict[str, msgspec.Raw]), msgspec.json.Decoder(_Line)


@dataclass(frozen=True)
class Place:
    """Where a tensor lies, and its SHA-256. `offset` is into the file."""

    file: Path
    offset: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    sha256: str


class Checkpoint:
    """The tensors of some safetensors files, by their names in the checkpoint."""

    def __init__(self, files: dict[Path, str]) -> None:
        """`files` maps each to its pinned SHA-256. Refuses with `model.file_missing`, `model.file_changed`
        or `model.unreadable`."""
        self.places: dict[str, Place] = {}
        for file, pin in files.items():
            self.places |= _survey(file, pin)

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


def _survey(file: Path, pin: str) -> dict[str, Place]:
    """One pass: the hash of the file, and of each tensor's bytes."""
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
                hashed = hashlib.sha256()
                left = stop - start
                while left:
                    block = opened.read(min(left, _BLOCK))
                    if not block:
                        raise Refusal("model.file_changed", file=file.name)
                    whole.update(block)
                    hashed.update(block)
                    left -= len(block)
                at = stop
                if line.dtype in _TYPES:
                    dtype = _TYPES[line.dtype]
                    places[name] = Place(file, 8 + length + start, line.shape, dtype, hashed.hexdigest())
            while block := opened.read(_BLOCK):
                whole.update(block)
    except OSError as error:
        raise Refusal("model.file_missing", file=file.name) from error
    if whole.hexdigest() != pin:
        raise Refusal("model.file_changed", file=file.name)
    return places


def _lines(header: bytes, file: str) -> list[tuple[str, _Line]]:
    """The header's tensors in the order of their bytes, which may not overlap."""
    try:
        raw = _HEADER.decode(header)
        raw.pop("__metadata__", None)
        lines = [(name, _LINE.decode(line)) for name, line in raw.items()]
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError) as error:
        raise Refusal("model.unreadable", task="any", fault=f"the header of {file}") from error
    lines.sort(key=lambda pair: pair[1].data_offsets)
    at = 0
    for _, line in lines:
        start, stop = line.data_offsets
        size = math.prod(line.shape) * _TYPES[line.dtype].itemsize if line.dtype in _TYPES else stop - start
        if start < at or stop - start != size:
            raise Refusal("model.unreadable", task="any", fault=f"the offsets in {file}")
        at = stop
    return lines
