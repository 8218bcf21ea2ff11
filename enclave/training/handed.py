"""Features that a site's host computed in clear and hands in: one file, all rows one after the other, each
(tokens, d_model) bf16 without padding, little-endian.

The host owns the file, and what stands in it no enclave can pin. So each row is hashed in one first pass,
in which its values must be finite and within the front's feature bound; the hashes are what the site
commits to, and a row that is read later must still have its own. Runs inside the client slice."""

from __future__ import annotations

import hashlib
import os
import random
import weakref
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor

from contracts.refusal import Refusal
from enclave.training.batches import by_length, shuffled
from enclave.training.data import Examples, collate
from enclave.training.feature_batch import FeatureBatch

NUMBER = 2
"""Bytes of a bf16."""


class HandedFeatures:
    """Rows of features in a file of the host. `lengths` are the tokens of each, which the enclave knows from
    the rows' own texts; `width` is d_model."""

    def __init__(self, file: Path, lengths: Sequence[int], width: int, feature_bound: float) -> None:
        """Reads all of it once.

        Raises: `front.no_features`, `front.wrong_size`, `front.not_finite` or `front.beyond_bound`.
        """
        self._width, self._lengths = width, list(lengths)
        self._starts = list(accumulate((self._bytes(row) for row in range(len(lengths))), initial=0))
        try:
            self._file = file.open("rb", buffering=0)
        except OSError as error:
            raise Refusal("front.no_features") from error
        weakref.finalize(self, self._file.close)
        found, expected = os.fstat(self._file.fileno()).st_size, self._starts[-1]
        if found != expected:
            raise Refusal("front.wrong_size", found=found, bytes=expected)
        self.hashes: list[bytes] = []
        for row in range(len(lengths)):
            data = self._read(row)
            _check(data, feature_bound)
            self.hashes.append(hashlib.sha256(data).digest())

    def row(self, number: int) -> Tensor:
        """One row, as it was in the first pass.

        Returns: (tokens, d_model) float32.

        Raises: `front.changed`.
        """
        return self._tensor(self._same(number)).float()

    def scan(self, chosen: Collection[int]) -> dict[int, Tensor]:
        """The chosen rows. All rows are read, in their order, so that the host does not see which ones are
        wanted.

        Returns: a row's number -> (tokens, d_model) float32.

        Raises: `front.changed`.
        """
        found = {}
        for number in range(len(self._lengths)):
            data = self._same(number)
            if number in chosen:
                found[number] = self._tensor(data).float()
        return found

    def _same(self, number: int) -> bytearray:
        data = self._read(number)
        if hashlib.sha256(data).digest() != self.hashes[number]:
            raise Refusal("front.changed")
        return data

    def _read(self, number: int) -> bytearray:
        data, read = bytearray(self._bytes(number)), 0
        self._file.seek(self._starts[number])  # Gramine has no preadv
        while read < len(data):
            more = self._file.readinto(memoryview(data)[read:])
            if not more:
                raise Refusal("front.changed")
            read += more
        return data

    def _bytes(self, number: int) -> int:
        return self._lengths[number] * self._width * NUMBER

    def _tensor(self, data: bytearray) -> Tensor:
        return torch.frombuffer(data, dtype=torch.bfloat16).view(-1, self._width)


@dataclass(frozen=True)
class FeatureRows:
    """What a tail learns from: `examples` with the features of their rows, which begin at row `first` of the
    file. A `Material` of the training loop, in the same order as the examples themselves."""

    examples: Examples
    features: HandedFeatures
    first: int

    def __len__(self) -> int:
        return len(self.examples)

    def training_batches(self, batch_size: int, shuffle: random.Random) -> Iterator[FeatureBatch]:
        """See `Examples.training_batches`."""
        return map(self.collate, shuffled(self.examples.lengths, batch_size, shuffle))

    def evaluation_batches(self, batch_size: int) -> Iterator[FeatureBatch]:
        """See `Examples.evaluation_batches`."""
        return map(self.collate, by_length(self.examples.lengths, batch_size, self.examples.at_once))

    def collate(self, indices: Sequence[int]) -> FeatureBatch:
        """Pad the chosen rows on the right to the longest of them.

        Raises: `front.changed`.
        """
        batch = collate(self.examples, indices)
        found = [self.features.row(self.first + index) for index in indices]
        features = torch.nn.utils.rnn.pad_sequence(found, batch_first=True)
        return FeatureBatch(features, batch.attention_mask, batch.targets, batch.rows)


def _check(data: bytearray, feature_bound: float) -> None:
    largest = float(torch.frombuffer(data, dtype=torch.bfloat16).abs().max())  # NaN where one is among them
    if not largest < float("inf"):
        raise Refusal("front.not_finite")
    if largest > feature_bound:
        raise Refusal("front.beyond_bound", limit=round(feature_bound, 1))
