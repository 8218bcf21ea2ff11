"""Which round does what: arithmetic over the manifest that all programs share; nothing else comes with it."""

from __future__ import annotations

from typing import Literal

from contracts.manifest import Manifest
from contracts.receipts import NO_RECEIPT

Kind = Literal["update", "evaluation"]


def kind_of(manifest: Manifest, round: int) -> Kind:
    """Rounds 1 to `training.rounds` train; the one after them is the closing evaluation."""
    return "update" if round <= manifest.training.rounds else "evaluation"


def shows_start(manifest: Manifest, previous: str) -> bool:
    """Whether an update that continues this receipt carries what it began with: the aggregator clips changes,
    and draws no initial parameters itself."""
    return manifest.aggregation.clip is not None and previous == NO_RECEIPT
