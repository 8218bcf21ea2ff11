"""The course of a run: after which receipt no round trains, and how many sites must name a receipt."""

from __future__ import annotations

from contracts.manifest import Manifest
from contracts.policy import Program
from contracts.receipts import Receipt


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
    return not has_stopped(receipt) and receipt.round < round <= manifest.last_round


def server_of(manifest: Manifest) -> Program:
    """Which server program signs the receipts of this run."""
    return "split_server" if manifest.method == "method-2" else "aggregator"


def naming_sites(manifest: Manifest) -> int:
    """How many sites must have named a receipt as the run's last before a split server uses the state that it
    stands for: as many as a quorum, or as make the state's key where those are more, but never one site alone
    among several."""
    shares = None if manifest.split is None else manifest.split.shares
    least = max(2, manifest.aggregation.quorum, 0 if shares is None else shares.threshold)
    return min(len(manifest.sites), least)
