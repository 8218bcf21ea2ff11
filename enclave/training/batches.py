"""Which rows make a batch together: the same for rows, shards, and features behind a public front, so that
the same examples meet in the same order wherever they come from."""

from __future__ import annotations

import random
from collections.abc import Sequence

BUCKET = 16
"""Batches per bucket: shuffled rows are sorted by length within so many batches, which cuts padding."""


def shuffled(lengths: Sequence[int], batch_size: int, shuffle: random.Random) -> list[list[int]]:
    """Batches of one epoch, as row numbers, in a shuffled order in which rows of similar length meet;
    `shuffle` alone decides it."""
    order = list(range(len(lengths)))
    shuffle.shuffle(order)
    batches: list[list[int]] = []
    for start in range(0, len(order), batch_size * BUCKET):
        bucket = sorted(order[start : start + batch_size * BUCKET], key=lambda i: lengths[i])
        batches += [bucket[i : i + batch_size] for i in range(0, len(bucket), batch_size)]
    shuffle.shuffle(batches)
    return batches


def by_length(lengths: Sequence[int], batch_size: int, at_once: int = 0) -> list[list[int]]:
    """All rows once, as row numbers, `at_once` together at most where it is not 0."""
    order, size = sorted(range(len(lengths)), key=lengths.__getitem__), min(batch_size, at_once or batch_size)
    return [order[i : i + size] for i in range(0, len(order), size)]
