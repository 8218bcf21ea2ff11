"""Tuned parameters as bytes and back: safetensors with one metadata entry, read strictly. No pickle.

What another party sent must equal the expected template in names, shapes and number types, and be finite,
before one value of it is used. Runs inside the enclave on what came out of a sealed stream. Source: the
safetensors format, https://github.com/huggingface/safetensors (8-byte little-endian header length, JSON
header, raw tensors).
"""

from __future__ import annotations

from typing import Any

import msgspec
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from contracts.canonical import canonical
from contracts.refusal import Refusal

METADATA = "fedslice"
MAX_METADATA_BYTES = 16 << 20
_BYTES_PER_NAME = 512
"""Allowance for one tensor's line in the header."""


def to_bytes(state: dict[str, Tensor], metadata: dict[str, Any] | None = None) -> bytes:
    """Serialise a state and a JSON value beside it. The same input gives the same bytes."""
    entry = {METADATA: canonical(metadata or {}).decode()}
    return safetensors.torch.save({name: tensor.contiguous() for name, tensor in state.items()}, entry)


def from_bytes(data: bytes, template: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a state that must look like `template` in all but its values, and the metadata beside it.

    Refuses with `tensors.too_large`, `tensors.unreadable`, `tensors.names`, `tensors.shape`, `tensors.dtype`
    or `tensors.not_finite`. The metadata is any JSON object: its reader checks it.
    """
    payload = sum(tensor.numel() * tensor.element_size() for tensor in template.values())
    limit = payload + MAX_METADATA_BYTES + _BYTES_PER_NAME * len(template)
    if len(data) > limit:
        raise Refusal("tensors.too_large", bytes=len(data), limit=limit)
    try:
        state = safetensors.torch.load(data)
        metadata = _metadata(data)
    except (safetensors.SafetensorError, msgspec.DecodeError, ValueError, KeyError, TypeError) as error:
        raise Refusal("tensors.unreadable") from error
    if state.keys() != template.keys():
        raise Refusal("tensors.names")
    for name, expected in template.items():
        if state[name].shape != expected.shape:
            raise Refusal("tensors.shape", name=name)
        if state[name].dtype != expected.dtype:
            raise Refusal("tensors.dtype", name=name)
        if not torch.isfinite(state[name]).all():
            raise Refusal("tensors.not_finite", name=name)
    if to_bytes(state, metadata) != data:  # one state has one form: no second header line, no bytes between
        raise Refusal("tensors.unreadable")
    return {name: state[name] for name in template}, metadata


def _metadata(data: bytes) -> dict[str, Any]:
    length = int.from_bytes(data[:8], "little")
    header = msgspec.json.decode(data[8 : 8 + length], type=dict[str, Any])
    return msgspec.json.decode(header["__metadata__"][METADATA], type=dict[str, Any])
