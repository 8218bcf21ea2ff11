"""What the training loop must know of what it learns from. For the type checker: no program loads it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Protocol

from torch import Tensor


class BatchLike(Protocol):
    """What the loop must know of a batch: `inputs` of the model by name, (batch, tokens, …) of the dtype that
    the model takes; `targets` as in `data.Batch`, (batch, …) int64, negative where nothing is learnt, or
    coded.py says what; and the number of `rows`."""

    @property
    def inputs(self) -> dict[str, Tensor]: ...
    @property
    def targets(self) -> Tensor: ...

    @property
    def rows(self) -> int: ...


Pieces = Sequence[tuple[BatchLike, float]]
"""A batch as it goes through the model, in one or several, with their shares of its loss."""


class Material(Protocol):
    """What a model learns from: `data.Examples` or `features.FeatureSet`. Its length counts rows."""

    def __len__(self) -> int: ...
    def training_batches(self, batch_size: int, shuffle: random.Random) -> Iterator[BatchLike]: ...
    def evaluation_batches(self, batch_size: int) -> Iterator[BatchLike]: ...
