"""Tuning that begins with an adapter which an earlier study released: its file is believed by its SHA-256 in
the manifest alone, and its tensors must be this model's own. Loaded by no run that draws its beginning.

A pair's A that the rule ffa-lora leaves as it is comes from there as well.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from torch import nn

from contracts.manifest import ModelSpec
from contracts.refusal import Refusal
from enclave.slicing.adapters import PEFT_PLACE, load_tuned_state, tuned_state
from enclave.training.tensors import State

MAX_START_BYTES = 1 << 30


def begin_with_release(model: nn.Module, spec: ModelSpec, mailbox: Path | None) -> None:
    """Method 1: let the tuned parameters of `model` be those of the pinned file `in/<sha256>`.

    Raises: `start.*`, and then nothing has changed.
    """
    load_tuned_state(model, _read(spec, mailbox, {name: name for name in tuned_state(model)}, model))


def begin_tail_with_release(tail: nn.Module, spec: ModelSpec, mailbox: Path | None) -> None:
    """Method 2: the same for LoRA and head of a tail. Tuned rows have no place in such a file: they begin at
    the base model's, so the whole computes what base model and adapter do.

    Raises: `start.*`, and then nothing has changed.
    """
    own = tuned_state(tail)
    # A tail calls the model `model`; a linear whose rows are tuned as well stands one level deeper.
    names = {
        PEFT_PLACE + name.removeprefix("model.").replace(".base_layer.", "."): name
        for name in own
        if not name.endswith(".rows")
    }
    load_tuned_state(tail, own | _read(spec, mailbox, names, tail))


def _read(spec: ModelSpec, mailbox: Path | None, names: dict[str, str], model: nn.Module) -> State:
    """`names`: what the file calls a parameter -> what the model does.

    Source: the safetensors format, https://github.com/huggingface/safetensors.
    """
    own, data = tuned_state(model), _pinned(spec, mailbox)
    start = 8 + int.from_bytes(data[:8], "little")
    try:
        lines = msgspec.json.decode(data[8:start], type=dict[str, dict[str, Any]])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal("start.unreadable") from error
    lines.pop("__metadata__", None)
    if lines.keys() != names.keys():
        raise Refusal("start.other_parameters", parameter=min(lines.keys() ^ names.keys())[:200])
    numbers, found = memoryview(data)[start:], {}
    for name, line in lines.items():
        expected = own[names[name]]
        if line.get("shape") != list(expected.shape) or line.get("dtype") != "F32":
            raise Refusal("start.other_parameters", parameter=name[:200])
        match line.get("data_offsets"):
            case [int(first), int(end)] if (
                0 <= first <= end <= len(numbers) and end - first == expected.nbytes
            ):
                tensor = np.frombuffer(numbers[first:end], "<f4").reshape(expected.shape)
            case _:
                raise Refusal("start.unreadable")
        if not np.isfinite(tensor).all():
            raise Refusal("start.unreadable")
        found[names[name]] = tensor
    return found


def _pinned(spec: ModelSpec, mailbox: Path | None) -> bytes:
    """The file, read once, so that what was hashed is what is used."""
    if mailbox is None:
        raise Refusal("start.missing")
    try:
        with (mailbox / "in" / str(spec.start)).open("rb") as file:
            data = file.read(MAX_START_BYTES + 1)
    except OSError as error:
        raise Refusal("start.missing") from error
    if len(data) > MAX_START_BYTES or hashlib.sha256(data).hexdigest() != spec.start:
        raise Refusal("start.changed")
    return data
