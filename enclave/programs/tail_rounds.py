"""The split server's rounds: score the tail on all listed sites' features, train it on them, seal its state.

Everything here runs inside the split server's enclave; what a round leaves behind is in `ledger`. Sites
countersign who trains in a round, as in Method 1: the roster names each site's index of shards.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from contracts.refusal import Refusal
from contracts.roster import Roster
from enclave.programs.identity import Identity
from enclave.programs.ledger import Ledger
from enclave.programs.mailbox import Mailbox
from enclave.programs.program import Report
from enclave.programs.schedule import kind_of
from enclave.programs.shelf import Shelf, SiteFeatures
from enclave.programs.tail import TailLearner
from enclave.training.metrics import Scores
from enclave.training.tensors import State


class TailRounds(Ledger):
    """All rounds of a run, in one split server."""

    def __init__(self, identity: Identity, mailbox: Mailbox, learner: TailLearner) -> None:
        super().__init__(identity, mailbox, learner.initial)
        self.learner = learner
        self.shelf = Shelf(identity, mailbox, learner, self.keys)

    @property
    def size(self) -> dict[str, int]:
        """What is tuned, and the bytes that its AdamW holds."""
        size = self.learner.size
        return {"parameters": size.parameters, "optimizer_bytes": size.optimizer_bytes}

    @property
    def is_named(self) -> bool:
        """Whether more than the host's word makes this the run's past: it was made or unsealed here, or
        enough sites have named its last receipt."""
        return self.standing.confirmed or self.keys.is_named(self.standing.hash)

    def status(self) -> dict[str, Any]:
        """As the ledger's, with the sites whose features are here; `named` as `is_named`."""
        told = {"features": self.shelf.sites, "tail": self.size, "named": self.is_named}
        return {**super().status(), **told}

    def train(
        self, round: int, roster: Roster, countersignatures: Mapping[str, str], report: Report
    ) -> dict[str, Any]:
        """Score the incoming parameters on all listed sites' evaluation features, and train one round on
        their training features. Once `training.patience` has run out, nothing is trained any more: the
        round's scores are the closing ones, and its numbers say `stopped`.

        Refuses with `round.*`, `roster.*`, `features.not_loaded` or `training.diverged`; then nothing has
        changed.
        """
        listed = self._begin(round, "update", roster, countersignatures)
        scores = self._score(listed, report)
        stopping = self._stopping(scores)
        if stopping.get("stopped"):
            return self._enter(round, roster, listed, scores, self.standing.state, stopping)
        shards = {site: features.of("training") for site, features in listed.items()}
        result, state = self.learner.train(round, shards, report)
        # What the rows that were trained on cost is told of nobody: it is exact, and of this round's sites.
        training = {"seconds": result.seconds, "rows": result.samples}
        return self._enter(round, roster, listed, scores, state, stopping, {"training": training})

    def evaluate(
        self, round: int, roster: Roster, countersignatures: Mapping[str, str], report: Report
    ) -> dict[str, Any]:
        """The closing evaluation; the parameters stay as they are. Refuses as `train` does."""
        listed = self._begin(round, "evaluation", roster, countersignatures)
        return self._enter(round, roster, listed, self._score(listed, report), self.standing.state, {})

    def _begin(
        self, round: int, kind: str, roster: Roster, countersignatures: Mapping[str, str]
    ) -> dict[str, SiteFeatures]:
        self.require_open(round)
        if kind_of(self.manifest, round) != kind:
            raise Refusal("round.out_of_order", asked=round, expected=self.standing.round + 1)
        self.require_roster(round, roster, countersignatures)
        listed = {entry.site: self.shelf.held(entry.site, entry.sha256) for entry in roster.inputs}
        self.learner.start_from(self.standing.state)
        return listed

    def _stopping(self, scores: Mapping[str, Scores]) -> dict[str, float | int]:
        """The best published loss so far and how many rounds ago that was, for the receipt: what is decided
        from it anybody can check, and it outlives the enclave with the receipt. A round whose scores are
        withheld decides nothing."""
        patience = self.manifest.training.patience
        if not patience:
            return {}
        receipt = self.standing.receipt
        last: dict[str, float | int] = {} if receipt is None else receipt.metrics.get("stopping", {})
        published = self.publish(scores)
        loss = published.numbers.get("loss", math.inf)
        if loss < last.get("best", math.inf):
            return {"best": loss, "rounds_since": 0}
        if "best" not in last or published.scoring.withheld:
            return last
        since = last["rounds_since"] + 1
        return {"best": last["best"], "rounds_since": since, "stopped": int(since >= patience)}

    def _enter(
        self,
        round: int,
        roster: Roster,
        listed: Mapping[str, SiteFeatures],
        scores: Mapping[str, Scores],
        state: State | None,
        stopping: Mapping[str, float | int],
        aside: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        return self.enter(
            round,
            roster,
            [features.input for features in listed.values()],
            scores,
            state=state,
            output=None,
            more={"tail": self.size, **({"stopping": dict(stopping)} if stopping else {})},
            aside=aside,
        )

    def _score(self, listed: dict[str, SiteFeatures], report: Report) -> dict[str, Scores]:
        return {
            site: self.learner.evaluate(features.of("evaluation"), report)
            for site, features in listed.items()
        }
