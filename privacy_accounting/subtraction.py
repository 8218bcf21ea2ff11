"""Runs whose results can be subtracted: the same model tuned the same way, over members that differ by one.

The difference of two such results is that one hospital's, up to the noise per hospital that both have.
"""

from __future__ import annotations

from collections.abc import Collection

from contracts.canonical import digest
from contracts.manifest import Manifest


def kind_of(manifest: Manifest) -> str:
    """What two runs share that can be subtracted (SHA-256 in hex): base model, task, method and the kind of
    adapter. Settings of training are left out on purpose: another seed or learning rate hides nothing."""
    model = manifest.model
    return digest([model.source, model.task, manifest.method, type(manifest.adapter).__name__])


def odd_one(members: Collection[str], others: Collection[str]) -> str | None:
    """The one member that is in one of two runs and not in the other; None where there is not exactly one."""
    different = set(members) ^ set(others)
    return different.pop() if len(different) == 1 else None


def is_covered(unit: str, other: str) -> bool:
    """Whether noise per hospital in both runs covers their difference, too."""
    return unit == other == "site"
