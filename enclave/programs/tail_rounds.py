"""The split server's rounds: score the tail on all listed sites' features, train it on them, seal its state.

Everything here runs inside the split server's enclave; what a round leaves behind is in `ledger`. Sites
countersign who trains in a round, as in Method 1: the roster names each site's index of shards.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from contracts.course import naming_sites
from contracts.refusal import Refusal
from contracts.roster import Roster
from contracts.sealed.handback import HandedBack
from contracts.sealed.shards import SiteKeys
from enclave.programs.identity import Identity
from enclave.programs.ledger import Ledger
from enclave.programs.mailbox import Mailbox
from enclave.programs.naming import Naming
from enclave.programs.program import Report
from enclave.programs.schedule import kind_of
from enclave.programs.shelf import Shelf, SiteFeatures
from enclave.programs.statekeys import StateKeys
from enclave.programs.tail import TailLearner
from enclave.training.metrics import Scores
from enclave.training.tensors import State


class TailRounds(Ledger):
    """All rounds of a run, in one split server."""

    def __init__(self, identity: Identity, mailbox: Mailbox, learner: TailLearner) -> None:
        super().__init__(identity, mailbox, learner.initial)
        self.keys = _keys(identity, self.keys)
        self.learner = learner
        self.naming = Naming(identity.manifest, identity.approvals)
        self.shelf = Shelf(identity, mailbox, learner, self._heard)

    @property
    def size(self) -> dict[str, int]:
        """What is tuned, and the bytes that its AdamW holds."""
        size = self.learner.size
        return {"parameters": size.parameters, "optimizer_bytes": size.optimizer_bytes}

    def require_named(self, also: Iterable[str] = ()) -> None:
        """That more than the host's word makes this the run's past: this life has made it, or enough sites
        have named its last receipt, be it the initial parameters' that have none. `also` are sites that
        have signed for this receipt otherwise. Refuses with `state.not_named`."""
        if not self.standing.own:
            self.naming.require(self.standing.hash, also)

    def status(self) -> dict[str, Any]:
        """As the ledger's, with the sites whose features are here; `named` as `require_named`."""
        named = self.standing.own or self.naming.found(self.standing.hash) >= naming_sites(self.manifest)
        return {**super().status(), "features": self.shelf.sites, "tail": self.size, "named": named}

    def take(self, site: str, keys: str, report: Report) -> SiteFeatures:
        """Open a site's features; what is used once can be replaced by nothing. Refuses as `Shelf.take`."""
        return self.shelf.take(site, keys, self.standing.pins.get(site), report)

    def hand_back(self, site: str, told: HandedBack) -> None:
        """What a site tells a life that serves or releases. Refuses with `state.no_shares`."""
        self.keys.meet(site, None, told.share)
        self.naming.tell(site, told.receipt)

    def train(
        self, round: int, roster: Roster, countersignatures: Mapping[str, str], report: Report
    ) -> dict[str, Any]:
        """Score the incoming parameters on all listed sites' evaluation features, and train one round on
        their training features. Once `training.patience` has run out, nothing is trained any more: the
        round's scores are the closing ones, and its numbers say `stopped`.

        Refuses with `round.*`, `roster.*`, `state.not_named`, `features.not_loaded`, `features.replaced` or
        `training.diverged`; then nothing has changed.
        """
        listed = self._begin(round, "update", roster, countersignatures)
        scores = self._score(listed, report)
        stopping = self._stopping(scores, roster)
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
        listed = {entry.site: self._used(entry.site, entry.sha256) for entry in roster.inputs}
        self.require_named()
        self.learner.start_from(self.standing.state)
        return listed

    def _used(self, site: str, sha256: str) -> SiteFeatures:
        """The features of a roster's entry, which are those that the site has always trained with."""
        held = self.shelf.held(site, sha256)
        if self.standing.pins.get(site, held.content) != held.content:
            raise Refusal("features.replaced", site=site)
        return held

    def _heard(self, site: str, told: SiteKeys) -> None:
        self.keys.meet(site, told.share_key, told.share)
        self.naming.tell(site, told.receipt)

    def _stopping(self, scores: Mapping[str, Scores], roster: Roster) -> dict[str, float | int]:
        """The best published loss so far and how many rounds ago that was, for the receipt: what is decided
        from it anybody can check, and it outlives the enclave with the receipt. A round whose scores are
        withheld decides nothing."""
        patience = self.manifest.training.patience
        if not patience:
            return {}
        receipt = self.standing.receipt
        last: dict[str, float | int] = {} if receipt is None else receipt.metrics.get("stopping", {})
        published = self.publish(scores, roster)
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
            pins={**self.standing.pins, **{site: features.content for site, features in listed.items()}},
        )

    def _score(self, listed: dict[str, SiteFeatures], report: Report) -> dict[str, Scores]:
        return {
            site: self.learner.evaluate(features.of("evaluation"), report)
            for site, features in listed.items()
        }


def _keys(identity: Identity, keys: StateKeys) -> StateKeys:
    """Shares exist only where there is no sealing key, and the manifest has the sites hold them."""
    split = identity.manifest.split
    if keys.own is not None or split is None or split.shares is None:
        return keys
    from enclave.programs.sharedkeys import SharedKeys

    return SharedKeys(identity)
