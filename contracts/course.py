"""The course of a run: how many rounds its manifest has, and after which receipt none of them trains."""

from __future__ import annotations

from contracts.manifest import Manifest
from contracts.policy import Program
from contracts.receipts import Receipt


def last_round(manifest: Manifest) -> int:
    """The closing evaluation: the round after the last that trains."""
    return manifest.training.rounds + 1


def has_stopped(receipt: Receipt) -> bool:
    """Whether training has ended early with this round (`training.patience`): no round follows."""
    stopping = receipt.metrics.get("stopping")
    return isinstance(stopping, dict) and bool(stopping.get("stopped"))


def is_over(manifest: Manifest, receipt: Receipt) -> bool:
    """Whether no round after this receipt trains."""
    return has_stopped(receipt) or receipt.round >= manifest.training.rounds


def may_follow(manifest: Manifest, receipt: Receipt, round: int) -> bool:
    """Whether the run has a round of this number after this receipt. A number may be missing: that round was
    given up."""
    return not has_stopped(receipt) and receipt.round < round <= last_round(manifest)


def server_of(manifest: Manifest) -> Program:
    """Which server program signs the receipts of this run."""
    return "split_server" if manifest.method == "method-2" else "aggregator"
