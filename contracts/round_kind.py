"""Which round does what, by its number (contracts/course.py tells of the course of a run)."""

from __future__ import annotations

from typing import Literal

from contracts.manifest import Manifest

Kind = Literal["update", "closing", "test"]


def kind_of(manifest: Manifest, round: int) -> Kind:
    """What the round of this number does."""
    if round <= manifest.training.rounds:
        return "update"
    return "closing" if round < manifest.last_round else "test"
