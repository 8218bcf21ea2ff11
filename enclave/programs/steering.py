"""Which round is the best, and when training ends: decided from pooled scores of validation rows alone.

Both decisions are made from what is published, so anybody can make them again from the receipts, and they
outlive the enclave in them. Runs inside both server enclaves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from contracts.best import best_after
from contracts.receipts import Best
from contracts.round_kind import Kind
from enclave.programs.publication import Published
from enclave.training.tensors import State

if TYPE_CHECKING:
    from enclave.programs.round_ledger import LatestRound

Numbers = dict[str, Any]


@dataclass(frozen=True)
class Steered:
    """What a round's scores have come to: what is told of them, the best round so far with its parameters
    (None: no round's were scored), and, with a patience, how long the loss has not fallen."""

    published: Published
    best: Best | None
    state: State | None
    stopping: Numbers


def steer(latest: LatestRound, kind: Kind, published: Published, patience: int) -> Steered:
    """Look at the scores of the parameters that `latest` has (contracts/best.py)."""
    receipt, loss, withheld = latest.receipt, published.numbers.get("loss"), published.scoring.withheld
    best = best_after(kind, receipt, latest.hash, loss, withheld=withheld is not None)
    last = {} if receipt is None else receipt.metrics.get("stopping", {})
    stopping = _stopping(last, published, patience) if kind == "update" else {}
    if best is None:
        return Steered(published, None, None, stopping)
    state = latest.state if best.receipt == latest.hash else latest.best
    return Steered(published, best, state, stopping)


def _stopping(last: Numbers, published: Published, patience: int) -> Numbers:
    """The lowest loss so far and how many rounds ago that was. A round whose scores are withheld decides
    nothing."""
    if not patience:
        return {}
    loss = published.numbers.get("loss", math.inf)
    if loss < last.get("best", math.inf):
        return {"best": loss, "rounds_since": 0}
    if "best" not in last or published.scoring.withheld:
        return last
    since = last["rounds_since"] + 1
    return {"best": last["best"], "rounds_since": since, "stopped": int(since >= patience)}
