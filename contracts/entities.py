"""Entities in tagged words, by IOB2: `B-TYPE` begins one, `I-TYPE` goes on with it, `O` is outside."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

OUTSIDE = "O"


class Entity(NamedTuple):
    """From word `first` to word `last`, both in it."""

    type: str
    first: int
    last: int


def labels_of(types: Iterable[str]) -> tuple[str, ...]:
    """All tags for these types of entities, in a fixed order."""
    return (OUTSIDE, *(f"{mark}-{name}" for name in sorted(types) for mark in "BI"))


def types_of(labels: Iterable[str]) -> tuple[str, ...]:
    """The types whose entities can begin, in their alphabet."""
    return tuple(sorted({label[2:] for label in labels if label.startswith("B-")}))


def entities(tags: Sequence[str]) -> set[Entity]:
    """Strictly: what goes on without a beginning of its type is no entity."""
    found: set[Entity] = set()
    first, name = 0, ""
    for place, tag in enumerate((*tags, OUTSIDE)):
        if name and tag != f"I-{name}":
            found.add(Entity(name, first, place - 1))
            name = ""
        if tag.startswith("B-"):
            first, name = place, tag[2:]
    return found
