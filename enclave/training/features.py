"""Features of examples, packed without padding: computed once by a front, read at every epoch by a tail.

A shard is safetensors: `features` (tokens, d_model) bf16, all examples one after the other; `lengths`
(examples,) int32; `labels` int32, (examples,) label ids, or for a causal LM (tokens,): a token's id where it
is learnt, IGNORED where it is given. Its metadata names its *origin*, a hash over all that decides its
content. The site writes; the split server's TEE reads what came out of a sealed stream, from a site that may
lie, and believes nothing of it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from contracts.feature_origin import origin
from contracts.kinds import CHOSEN, Kind
from contracts.manifest import ModelSpec
from contracts.refusal import Refusal
from contracts.sealed.shards import PURPOSES, Purpose
from enclave.training.batches import by_length, shuffled
from enclave.training.data import IGNORED
from enclave.training.feature_batch import FeatureBatch

SHARD_BYTES = 32 << 20
"""Payload of a shard at most, unless one example alone is larger."""
_HEADER_BYTES = 4096
_TYPES = {"features": torch.bfloat16, "lengths": torch.int32, "labels": torch.int32}


class _Metadata(msgspec.Struct, forbid_unknown_fields=True):
    origin: str


class _Header(msgspec.Struct):
    metadata: _Metadata = msgspec.field(name="__metadata__")


_HEADER = msgspec.json.Decoder(_Header)


@dataclass(frozen=True)
class Layout:
    """What a shard of one run and site must look like. `width` is d_model, `tokens` the longest example,
    `labels` the number of label ids, or of token ids for a causal LM (`per_token`), `feature_bound` the
    largest absolute value that is believed to come from the front (`slicing.split.feature_bound_of`), `least`
    the smallest label (several.py)."""

    origin: str
    width: int
    tokens: int
    labels: int
    per_token: bool
    feature_bound: float = math.inf
    least: int = 0

    def most_evaluated(self, training: int, rows: int) -> int:
        """How many examples to evaluate on a site with so many rows has at most, if it trains on so many."""
        return rows - training

    def rows_of(self, shards: Callable[[Purpose], Iterable[Shard]]) -> int:
        """How many rows a site's examples are: each is one (but choice_shards.py)."""
        return sum(len(shard) for purpose in PURPOSES for shard in shards(purpose))

    def bytes_of(self, length: int) -> int:
        """Payload of one example of `length` tokens."""
        return length * (2 * self.width + 4 * self.per_token) + 4 + 4 * (not self.per_token)

    def plain_labels(self, shard: Shard) -> Tensor:
        """What has to be among the labels (choices.py has others as well).

        Returns: (examples,) or (tokens,) int32.
        """
        return shard.labels

    @property
    def limit(self) -> int:
        """The most bytes that a shard may have."""
        return max(SHARD_BYTES, self.bytes_of(self.tokens)) + _HEADER_BYTES


@dataclass(frozen=True)
class Shard:
    """Packed examples; shapes as in the module's text."""

    features: Tensor
    lengths: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.lengths)


def layout_of(spec: ModelSpec, config: Any, k: int, digest: str, *, coded: Kind | None = None) -> Layout:
    """What both sides expect. `config` is the base model's; `coded`: as in the manifest."""
    per_token = spec.task != "sequence-classification"
    least, labels = 0, config.vocab_size if spec.task == "causal-lm" else len(spec.labels)
    if coded not in (None, CHOSEN):
        least, labels = (IGNORED - labels, IGNORED) if per_token else (-(1 << labels), 0)
    made, width, longest = origin(spec, k, digest), config.hidden_size, spec.max_tokens
    kind = Layout
    if coded == CHOSEN:
        from enclave.training.choice_shards import ChoicesLayout as kind
    return kind(made, width, longest, labels, per_token, least=least)


def to_bytes(shard: Shard, layout: Layout) -> bytes:
    """One shard has one form: these bytes."""
    tensors = {name: getattr(shard, name).contiguous() for name in _TYPES}
    return safetensors.torch.save(tensors, {"origin": layout.origin})


def from_bytes(data: bytes, layout: Layout) -> Shard:
    """Read a shard that must fit `layout` in everything.

    Raises: `features.*`.
    """
    if len(data) > layout.limit:
        raise Refusal("features.too_large", bytes=len(data), limit=layout.limit)
    try:
        tensors = safetensors.torch.load(data)
        length = int.from_bytes(data[:8], "little")
        metadata = _HEADER.decode(data[8 : 8 + length]).metadata
    except (safetensors.SafetensorError, msgspec.DecodeError, ValueError, KeyError, TypeError) as error:
        raise Refusal("features.unreadable") from error
    if metadata.origin != layout.origin:
        raise Refusal("features.stale")
    if tensors.keys() != _TYPES.keys():
        raise Refusal("features.names")
    for name, dtype in _TYPES.items():
        if tensors[name].dtype != dtype:
            raise Refusal("features.dtype", part=name)
    shard = Shard(**tensors)
    _check_shapes(shard, layout)
    _check_values(shard, layout)
    if to_bytes(shard, layout) != data:  # no second header line, no bytes between
        raise Refusal("features.unreadable")
    return shard


def _check_shapes(shard: Shard, layout: Layout) -> None:
    if shard.features.dim() != 2 or shard.features.shape[1] != layout.width:
        raise Refusal("features.shape", part="features")
    if shard.lengths.dim() != 1:
        raise Refusal("features.shape", part="lengths")
    if not len(shard.lengths) or not len(shard.features):
        raise Refusal("features.empty")
    rows = len(shard.features) if layout.per_token else len(shard.lengths)
    if tuple(shard.labels.shape) != (rows,):
        raise Refusal("features.shape", part="labels")


def _check_values(shard: Shard, layout: Layout) -> None:
    within = (shard.lengths >= 1) & (shard.lengths <= layout.tokens)
    if not within.all() or int(shard.lengths.sum(dtype=torch.int64)) != len(shard.features):
        raise Refusal("features.lengths")
    labels = layout.plain_labels(shard)
    known = (labels >= layout.least) & (labels < layout.labels)
    if layout.per_token:
        if not (known | (labels == IGNORED)).all() or not _each_predicts(shard, known):
            raise Refusal("features.labels")
    elif not known.all():
        raise Refusal("features.labels")
    if not torch.isfinite(shard.features).all():
        raise Refusal("features.not_finite")
    if float(shard.features.abs().max()) > layout.feature_bound:
        raise Refusal("features.beyond_bound", limit=round(layout.feature_bound, 1))


def _each_predicts(shard: Shard, known: Tensor) -> bool:
    """Whether each example has a token to learn after its first, which nothing predicts. One without would
    count as a row, in weights and in the least number of rows of a score, and say nothing."""
    ends = shard.lengths.cumsum(0, dtype=torch.int64)
    predicted = known.clone()
    predicted[ends - shard.lengths] = False
    counted = torch.nn.functional.pad(predicted.cumsum(0), (1, 0))
    return bool((counted[ends] > counted[ends - shard.lengths]).all())


class FeatureSet:
    """Shards put together: what a tail trains with. Holds the bf16 features; batches are float32."""

    def __init__(self, shards: Sequence[Shard], layout: Layout, at_once: int = 0) -> None:
        """At most `at_once` examples are scored together (0: as many as are asked for)."""
        self._shards, self._layout, self._at_once = shards, layout, at_once
        self._places: list[tuple[int, int, int, int]] = []  # shard, example in it, first token, length
        for number, shard in enumerate(shards):
            first = 0
            for example, length in enumerate(shard.lengths.tolist()):
                self._places.append((number, example, first, length))
                first += length
        self._lengths = [length for *_, length in self._places]

    def __len__(self) -> int:
        return len(self._places)

    def training_batches(self, batch_size: int, shuffle: random.Random) -> Iterator[FeatureBatch]:
        """One epoch in a shuffled order in which examples of similar length meet (as `data.Examples`,
        and in the same order for the same examples); `shuffle` alone decides it."""
        return (self.collate(rows) for rows in shuffled(self._lengths, batch_size, shuffle))

    def evaluation_batches(self, batch_size: int) -> Iterator[FeatureBatch]:
        """All examples once, by length."""
        return (self.collate(rows) for rows in by_length(self._lengths, batch_size, self._at_once))

    def collate(self, indices: Sequence[int]) -> FeatureBatch:
        """Pad the chosen examples on the right to the longest of them."""
        places = [self._places[index] for index in indices]
        longest = max(length for *_, length in places)
        features = torch.zeros(len(indices), longest, self._layout.width)
        mask = torch.zeros(len(indices), longest, dtype=torch.long)
        per_token = self._layout.per_token
        targets = torch.full((len(indices), longest) if per_token else (len(indices),), IGNORED)
        for row, (number, example, first, length) in enumerate(places):
            shard = self._shards[number]
            features[row, :length] = shard.features[first : first + length]
            mask[row, :length] = 1
            if per_token:
                targets[row, :length] = shard.labels[first : first + length]
            else:
                targets[row] = shard.labels[example]
        return FeatureBatch(features, mask, targets, len(indices))
