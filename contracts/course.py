"""The course of a run: which round does what, after which receipt no round trains, and how many sites must
name a receipt.

Rounds 1 to `training.rounds` score the parameters that they begin with, on validation rows, and train. The
closing round scores what the last of them made, and makes the best round's parameters the run's. It has
several numbers, of which one is used. The test round scores these parameters on the test rows, which no other
round reads. No parameters are served or released that no closing round has chosen.
"""

from __future__ import annotations

from contracts.manifest import Manifest
from contracts.policy import Program
from contracts.receipts import Receipt
from contracts.round_kind import kind_of


def has_stopped(receipt: Receipt) -> bool:
    """Whether training has ended early with this round (`training.patience`): a closing round follows."""
    return bool(receipt.metrics.get("stopping", {}).get("stopped"))


def is_over(manifest: Manifest, receipt: Receipt) -> bool:
    """Whether the run's parameters are chosen: those of this receipt are no others than they will ever be."""
    return kind_of(manifest, receipt.round) != "update"


def may_follow(manifest: Manifest, receipt: Receipt | None, round: int) -> bool:
    """Whether the run has a round of this number after this receipt (None: as its first). A number may be
    missing: that round was given up, or training had stopped. There is one closing round, after a round that
    trained, and no test before it."""
    before = 0 if receipt is None else receipt.round
    if not before < round <= manifest.last_round:
        return False
    match kind_of(manifest, round):
        case "update":
            return receipt is None or not has_stopped(receipt)
        case "closing":
            return receipt is not None and not is_over(manifest, receipt)
        case "test":
            return receipt is not None and kind_of(manifest, before) == "closing"


def next_round(manifest: Manifest, receipt: Receipt | None, number: int) -> int | None:
    """The number of the round to try next, after this receipt, where the last that was tried has `number`
    (0: none). None: there is none, as the run is through or too many closing rounds were given up."""
    wanted = number + 1
    if receipt is not None and has_stopped(receipt):
        wanted = max(wanted, manifest.training.rounds + 1)
    if receipt is not None and is_over(manifest, receipt):
        wanted = max(wanted, manifest.last_round)
    return wanted if may_follow(manifest, receipt, wanted) else None


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
