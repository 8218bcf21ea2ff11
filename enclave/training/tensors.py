"""Tuned parameters as bytes and back: safetensors with one metadata entry, read strictly. No pickle.

What another party sent must equal the expected template in names, shapes and number types, and be finite,
before one value of it is used. Runs inside the enclave on what came out of a sealed stream, in the aggregator
too, which has no torch: a state is a dictionary of numpy arrays. Source: the safetensors format,
https://github.com/huggingface/safetensors (8-byte little-endian header length, JSON header, raw tensors).
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import safetensors
import safetensors.numpy
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
    entry = {METADATA: canonical(metadata or {}).decode()}
    # The library writes memory as it lies: a transposed view would come back as another matrix.
    dense = {name: np.asarray(tensor, order="C") for name, tensor in state.items()}
    data: bytes = safetensors.numpy.save(dense, entry)
    return data


def from_bytes(data: bytes, template: State) -> tuple[State, dict[str, Any]]:
    """Read a state that must look like `template` in all but its values, and the metadata beside it.

    The metadata is any JSON object: its reader checks it.

    Raises: `tensors.too_large`, `tensors.unreadable`, `tensors.names`, `tensors.shape`, `tensors.dtype` or
    `tensors.not_finite`.
    """
    payload = sum(tensor.nbytes for tensor in template.values())
    limit = payload + MAX_METADATA_BYTES + _BYTES_PER_NAME * len(template)
    if len(data) > limit:
        raise Refusal("tensors.too_large", bytes=len(data), limit=limit)
    try:
        lines = dict(safetensors.deserialize(data))
        metadata = _metadata(data)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise Refusal("tensors.unreadable") from error  # msgspec.DecodeError is a ValueError
    if lines.keys() != template.keys():
        raise Refusal("tensors.names")
    state = {name: _read(name, lines[name], expected) for name, expected in template.items()}
    if to_bytes(state, metadata) != data:  # one state has one form: no second header line, no bytes between
        raise Refusal("tensors.unreadable")
    return state, metadata


def _read(name: str, line: dict[str, Any], expected: NDArray[np.float32]) -> NDArray[np.float32]:
    if tuple(line["shape"]) != expected.shape:
        raise Refusal("tensors.shape", name=name)
    if line["dtype"] != "F32":
        raise Refusal("tensors.dtype", name=name)
    found = np.frombuffer(line["data"], "<f4").reshape(expected.shape)
    if not np.isfinite(found).all():
        raise Refusal("tensors.not_finite", name=name)
    return found


def _metadata(data: bytes) -> dict[str, Any]:
    length = int.from_bytes(data[:8], "little")
    header = msgspec.json.decode(data[8 : 8 + length], type=dict[str, Any])
    return msgspec.json.decode(header["__metadata__"][METADATA], type=dict[str, Any])
