"""The split server's rounds: score the tail on all listed sites' features, train it on them, seal its state.

Everything here runs inside the split server's enclave; what a round leaves behind is in `ledger`. Sites
countersign who trains in a round, as in Method 1: the roster names each site's index of shards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from contracts.course import naming_sites
from contracts.refusal import Refusal
from contracts.roster import Roster
from contracts.round_kind import kind_of
from contracts.sealed.shards import Purpose, SiteKeys
from contracts.server_calls import RoundDone
from contracts.split_server_calls import TailSize, TailStatus
from enclave.programs.feature_store import FeatureStore, SiteFeatures
from enclave.programs.identity import Identity
from enclave.programs.mailbox import Mailbox
from enclave.programs.naming import Naming
from enclave.programs.program import Report
from enclave.programs.round_ledger import RoundLedger
from enclave.programs.statekeys import StateKeys
from enclave.programs.steering import Steered
from enclave.programs.tail import TailLearner
from enclave.training.tensors import State


class TailRounds(RoundLedger):
    """All rounds of a run, in one split server."""

    def __init__(self, identity: Identity, mailbox: Mailbox, learner: TailLearner) -> None:
        super().__init__(identity, mailbox, learner.initial)
        self.keys = _keys(identity, self.keys)
        self.learner = learner
        self.naming = Naming(identity.manifest, identity.approvals)
        self.features = FeatureStore(identity, mailbox, learner, self._heard)

    @property
    def size(self) -> TailSize:
        """What is tuned, and the bytes that its AdamW holds."""
        size = self.learner.size
        return TailSize(size.parameters, size.optimizer_bytes)

    def require_named(self, also: Iterable[str] = ()) -> None:
        """That more than the host's word makes this the run's past: this instance has made it, or enough
        sites have named its last receipt, be it the initial parameters' that have none. `also` are sites
        that have signed for this receipt otherwise.

        Raises: `state.not_named`.
        """
        if not self.latest.own:
            self.naming.require(self.latest.hash, also)

    def status(self) -> TailStatus:
        """Where the run stands, and the sites whose features are here; `named` as `require_named`."""
        named = self.latest.own or self.naming.found(self.latest.hash) >= naming_sites(self.manifest)
        return TailStatus(self.latest.round, self.latest.hash, self.features.sites, named)

    def take(self, site: str, keys: str, report: Report) -> SiteFeatures:
        """Open a site's features; what is used once can be replaced by nothing.

        Raises: as `FeatureStore.take`.
        """
        return self.features.take(site, keys, self.latest.pins.get(site), report)

    def hand_back(self, site: str, receipt: str, share: bytes | None) -> None:
        """What a site tells an instance that serves or releases.

        Raises: `state.no_shares`.
        """
        self.keys.meet(site, None, share)
        self.naming.tell(site, receipt)

    def train(
        self, round: int, roster: Roster, countersignatures: Mapping[str, str], report: Report
    ) -> RoundDone:
        """Score the incoming parameters on all listed sites' validation features, and train one round on
        their training features.

        Raises: `round.*`, `roster.*`, `state.not_named`, `features.not_loaded`, `features.replaced` or
        `training.diverged`; then nothing has changed.
        """
        listed = self._begin(round, roster, countersignatures, trains=True)
        steered = self._steered(round, roster, listed, "validation", report)
        shards = {site: features.of("training") for site, features in listed.items()}
        result, state = self.learner.train(round, shards, report)
        # What the rows that were trained on cost is told of nobody: it is exact, and of this round's sites.
        training = {"seconds": result.seconds, "rows": result.samples}
        return self._enter(round, roster, listed, steered, state, {"training": training})

    def evaluate(
        self, round: int, roster: Roster, countersignatures: Mapping[str, str], report: Report
    ) -> RoundDone:
        """The closing round, which makes the best round's parameters the run's, and the test.

        Raises: as `train` does.
        """
        listed = self._begin(round, roster, countersignatures, trains=False)
        tests = kind_of(self.manifest, round) == "test"
        steered = self._steered(round, roster, listed, "test" if tests else "validation", report)
        state = self.latest.state if tests else self.chosen(steered)
        return self._enter(round, roster, listed, steered, state)

    def _begin(
        self, round: int, roster: Roster, countersignatures: Mapping[str, str], *, trains: bool
    ) -> dict[str, SiteFeatures]:
        self.require_open(round)
        if (kind_of(self.manifest, round) == "update") != trains:
            raise Refusal("round.out_of_order", asked=round, expected=self.latest.round + 1)
        self.require_roster(round, roster, countersignatures)
        listed = {entry.site: self._used(entry.site, entry.sha256) for entry in roster.inputs}
        self.require_named()
        self.learner.start_from(self.latest.state)
        return listed

    def _used(self, site: str, sha256: str) -> SiteFeatures:
        """The features of a roster's entry, which are those that the site has always trained with."""
        held = self.features.held(site, sha256)
        if self.latest.pins.get(site, held.content) != held.content:
            raise Refusal("features.replaced", site=site)
        return held

    def _heard(self, site: str, unsealed: SiteKeys) -> None:
        self.keys.meet(site, unsealed.share_key, unsealed.share)
        self.naming.tell(site, unsealed.receipt)

    def _enter(
        self,
        round: int,
        roster: Roster,
        listed: Mapping[str, SiteFeatures],
        steered: Steered,
        state: State | None,
        aside: Mapping[str, Any] | None = None,
    ) -> RoundDone:
        return self.enter(
            round,
            roster,
            [features.input for features in listed.values()],
            steered,
            state=state,
            output=None,
            more={"tail": self.size},
            aside=aside,
            pins={**self.latest.pins, **{site: features.content for site, features in listed.items()}},
        )

    def _steered(
        self,
        round: int,
        roster: Roster,
        listed: dict[str, SiteFeatures],
        purpose: Purpose,
        report: Report,
    ) -> Steered:
        tables = self.manifest.publishes_tables(round)
        scores = {
            site: self.learner.evaluate(features.of(purpose), report, tables=tables)
            for site, features in listed.items()
        }
        return self.steer(round, scores, roster)


def _keys(identity: Identity, keys: StateKeys) -> StateKeys:
    """Shares exist only where there is no sealing key, and the manifest has the sites hold them."""
    split = identity.manifest.split
    if keys.own is not None or split is None or split.shares is None:
        return keys
    from enclave.programs.sharedkeys import SharedKeys

    return SharedKeys(identity)
