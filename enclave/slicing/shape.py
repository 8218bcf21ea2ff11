"""The shape of a batch: all that a placement has to know of it beforehand."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """A coming batch, as it will be fed: `rows` padded to `tokens`, and whether a backward pass follows."""

    rows: int
    tokens: int
    backward: bool
