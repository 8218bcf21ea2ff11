"""Tuned parameters as bytes and back: safetensors with one metadata entry, read strictly. No pickle.

What another party sent must equal the expected template in names, shapes and number types, and be finite,
before one value of it is used. The format is read and written here, not by its library, which copies a
state three times over. Runs inside the enclave on what came out of a sealed stream, in the aggregator
too, which has no torch: a state is a dictionary of numpy arrays. Source: the safetensors format,
https://github.com/huggingface/safetensors (8-byte little-endian header length, JSON header, raw tensors).
"""

from __future__ import annotations

from typing import Any, BinaryIO, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from contracts.canonical import canonical
from contracts.refusal import Refusal

State = dict[str, NDArray[np.float32]]
"""Tuned parameters by name. Programs with torch convert where they read a model and where they set it."""

METADATA = "fedslice"
FIRST, SECOND = "first/", "second/"
"""Before the name of a tensor in a server's sealed state: its moments in the server's optimizer."""
MAX_METADATA_BYTES = 16 << 20
_BYTES_PER_NAME = 512
"""Allowance for one tensor's line in the header."""


def to_bytes(state: State, metadata: dict[str, Any] | None = None) -> bytes:
    """Serialise a state and a JSON value beside it. The same input gives the same bytes."""
    return b"".join(_parts(state, metadata or {}))


def as_file(state: State, metadata: dict[str, Any] | None = None) -> BinaryIO:
    """What `to_bytes` gives, to be read once, from where the state lies: no second copy of it is made."""
    return cast(BinaryIO, _Parts(_parts(state, metadata or {})))


class _Parts:
    def __init__(self, parts: list[Any]) -> None:
        self._parts = parts[::-1]

    def readinto(self, buffer: memoryview, /) -> int:
        part = self._parts.pop() if self._parts else b""
        count = min(len(part), len(buffer))
        buffer[:count] = part[:count]
        if part[count:]:
            self._parts.append(part[count:])
        return count


def _parts(state: State, metadata: dict[str, Any]) -> list[Any]:
    # As a tensor looks, not as it lies: a transposed view would come back as another matrix.
    dense = [np.asarray(state[name], order="C").reshape(-1) for name in sorted(state) if state[name].size]
    return [_header(state, metadata), *(tensor.view(np.uint8).data for tensor in dense)]


def shapes(state: State) -> State:
    """As a template: names and shapes, without storage."""
    return {name: np.broadcast_to(np.float32(0), tensor.shape) for name, tensor in state.items()}


def from_bytes(data: bytes, template: State) -> tuple[State, dict[str, Any]]:
    """Read a state that must look like `template` in all but its values, and the metadata beside it.

    The metadata is any JSON object: its reader checks it.

    Returns: the metadata, and arrays that lie in `data`: nothing is copied, and each of them keeps all of it.

    Raises: `tensors.too_large`, `tensors.unreadable`, `tensors.names`, `tensors.shape`, `tensors.dtype` or
    `tensors.not_finite`.
    """
    payload = sum(tensor.nbytes for tensor in template.values())
    limit = payload + MAX_METADATA_BYTES + _BYTES_PER_NAME * len(template)
    if len(data) > limit:
        raise Refusal("tensors.too_large", bytes=len(data), limit=limit)
    start = 8 + int.from_bytes(data[:8], "little")
    try:
        lines = msgspec.json.decode(data[8:start], type=dict[str, dict[str, Any]])
        metadata = msgspec.json.decode(lines.pop("__metadata__")[METADATA], type=dict[str, Any])
        header = _header(template, metadata)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Refusal("tensors.unreadable") from error  # msgspec.DecodeError is a ValueError
    if lines.keys() != template.keys():
        raise Refusal("tensors.names")
    for name, expected in template.items():
        if lines[name].get("shape") != list(expected.shape):
            raise Refusal("tensors.shape", name=name)
        if lines[name].get("dtype") != "F32":
            raise Refusal("tensors.dtype", name=name)
    # One state has one form: no second header line, no bytes between or after.
    if data[:start] != header or len(data) != start + payload:
        raise Refusal("tensors.unreadable")
    numbers, state = np.frombuffer(memoryview(data)[start:], "<f4"), {}
    for name, expected in template.items():
        first = lines[name]["data_offsets"][0] // 4
        state[name] = numbers[first : first + expected.size].reshape(expected.shape)
        if not np.isfinite(state[name]).all():
            raise Refusal("tensors.not_finite", name=name)
    return state, metadata


def _header(state: State, metadata: dict[str, Any]) -> bytes:
    """What stands before the numbers, as the format's own library writes it."""
    lines: dict[str, Any] = {"__metadata__": {METADATA: canonical(metadata).decode()}}
    end = 0
    for name in sorted(state):
        start, end = end, end + state[name].nbytes
        assert state[name].dtype == np.float32
        lines[name] = {"dtype": "F32", "shape": state[name].shape, "data_offsets": (start, end)}
    raw = msgspec.json.encode(lines)
    return (len(raw) + -len(raw) % 8).to_bytes(8, "little") + raw + b" " * (-len(raw) % 8)
