"""A manifest's classes in words, and what else rows may call them."""

from __future__ import annotations

from collections.abc import Collection

from contracts.labels import spelled
from contracts.manifest import ModelSpec
from site_agent.words import printable


def labels_in_words(model: ModelSpec, own: Collection[str]) -> list[str]:
    """Lines for who approves. `own` are the labels of this site's dataset."""
    if not model.labels:
        return ["  labels       none"]
    names = ", ".join(printable(label, 60) for label in model.labels)
    lines = [f"  labels       {len(model.labels)}: {names}"]
    for said, label in sorted(model.spellings.items()):
        here = ", so in your dataset" if said in own else ""
        lines.append(f"  read as one  \u201c{spelled(said)}\u201d as \u201c{spelled(label)}\u201d{here}")
    return lines
