"""Which tensors a contribution must hold. The aggregator loads no base model: its memory stays small, and it
has no tokenizer, configuration or weights to be attacked through. So it learns the shapes from what it is
sent:

- the manifest says what LoRA on its targets looks like: pairs A (rank, in) and B (out, rank), and beside them
  only a classifier's head (B alone under the rule ffa-lora);
- in the first round all contributions must look like the first one that was opened;
- from then on, the last global parameters are the template.

An attested client slice cannot send other shapes, as its model is pinned by hash; this is the second lock.
"""

from __future__ import annotations

import math
import re
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta, Struct

from contracts.architecture.numbering import layer_of
from contracts.manifest import Lora, Manifest, Prefix
from contracts.refusal import Refusal
from enclave.programs.contributions import START
from enclave.training.tensors import FIRST, SECOND, State

MAX_TENSORS = 100_000
MAX_HEADER_BYTES = 32 << 20
BEST = "best/"
"""Before the name of a tensor in sealed state: not the last round's, but the best one's."""
_PREFIX = "prompt_embeddings"
_LORA = re.compile(r"(?P<layer>.+)\.lora_(?P<side>[AB])\.weight")

Size = Annotated[int, Meta(ge=1, le=1 << 31)]


class _Line(Struct, forbid_unknown_fields=True, frozen=True):
    """A tensor in the header of a safetensors file."""

    dtype: str
    shape: Annotated[tuple[Size, ...], Meta(max_length=4)]
    data_offsets: tuple[int, int]


def learn(data: bytes, manifest: Manifest) -> State:
    """The template that a safetensors file of tuned parameters describes, as arrays without storage.

    Only the header is read. Names after START, BEST, FIRST or SECOND are left out: they have to mirror the
    others.

    Raises: `tensors.unreadable`, `tensors.dtype`, `tensors.names`, `tensors.shape` or `front.tuned_below`
    for what is no state of this manifest's adapter.
    """
    template = {
        name: np.broadcast_to(np.float32(0), line.shape)
        for name, line in _header(data).items()
        if not name.startswith((START, BEST, FIRST, SECOND))
    }
    adapter = manifest.adapter
    if isinstance(adapter, Lora):
        first = 0 if manifest.front is None else manifest.front.first
        for name in template:
            _require_above(name, first)
        sides = {"B"} if manifest.aggregation.rule == "ffa-lora" else {"A", "B"}
        _check_lora(template, adapter, manifest.model.task, sides)
    elif isinstance(adapter, Prefix):
        _check_prefix(template, adapter, manifest.model.task)
    else:
        raise Refusal("tensors.names")
    return template


def has(data: bytes, mark: str) -> bool:
    """Whether a safetensors file has names after this mark.

    Raises: `tensors.*` as `learn`.
    """
    return any(name.startswith(mark) for name in _header(data))


def _check_lora(template: State, adapter: Lora, task: str, expected: set[str]) -> None:
    pairs: dict[str, set[str]] = {}
    for name, tensor in template.items():
        match = _LORA.fullmatch(name)
        if match is None:
            if task == "causal-lm" or "lora" in name:
                raise Refusal("tensors.names")
            continue
        layer, side = match["layer"], match["side"]
        if not any(layer == target or layer.endswith(f".{target}") for target in adapter.targets):
            raise Refusal("tensors.names")
        if tensor.ndim != 2 or tensor.shape[0 if side == "A" else 1] != adapter.rank:
            raise Refusal("tensors.shape", name=name)
        pairs.setdefault(layer, set()).add(side)
    if not pairs or any(sides != expected for sides in pairs.values()):
        raise Refusal("tensors.names")


def _require_above(name: str, first: int) -> None:
    """Behind a public front nothing below layer `first` is tuned: its host could see what it makes of a
    text."""
    number = layer_of(name)
    if first and (number < first if number is not None else _LORA.fullmatch(name) is not None):
        raise Refusal("front.tuned_below", name=name, first=first)


def _check_prefix(template: State, adapter: Prefix, task: str) -> None:
    """One matrix of `length` rows, and the head of a classification."""
    if _PREFIX not in template or (len(template) > 1 and task == "causal-lm"):
        raise Refusal("tensors.names")
    if template[_PREFIX].ndim != 2 or template[_PREFIX].shape[0] != adapter.length:
        raise Refusal("tensors.shape", name=_PREFIX)


def _header(data: bytes) -> dict[str, _Line]:
    length = int.from_bytes(data[:8], "little")
    if length > MAX_HEADER_BYTES:
        raise Refusal("tensors.unreadable")
    try:
        lines = msgspec.json.decode(data[8 : 8 + length], type=dict[str, msgspec.Raw])
        lines.pop("__metadata__", None)
        if len(lines) > MAX_TENSORS:
            raise Refusal("tensors.unreadable")
        header = {name: msgspec.json.decode(line, type=_Line) for name, line in lines.items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal("tensors.unreadable") from error
    for name, line in header.items():
        if line.dtype != "F32":
            raise Refusal("tensors.dtype", name=name)
    if sum(4 * math.prod(line.shape) for line in header.values()) != len(data) - 8 - length:
        raise Refusal("tensors.unreadable")
    return header
