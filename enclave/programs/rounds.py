"""The aggregator's rounds: open the sites' contributions, average them, seal the next parameters.

Everything here runs inside the aggregator's enclave; what a round leaves behind is in `ledger`.
"""

from __future__ import annotations

from collections.abc import Mapping

from contracts.aggregator_calls import AggregatorStatus, Inspected, Reissued
from contracts.commitment import Committed, Held, hold, require_committed
from contracts.counting import counted
from contracts.evidence import Evidence
from contracts.progress import Progress
from contracts.receipts import ReceiptInput
from contracts.refusal import Refusal
from contracts.reissue import Reissue
from contracts.roster import Roster
from contracts.round_kind import kind_of
from contracts.sealed.container import FileRef
from contracts.sealed.stream import Binding, seal
from contracts.server_calls import Restored, RoundDone
from contracts.server_statements import sign_reissue
from enclave.programs.admission import Admission
from enclave.programs.averaging import Averager
from enclave.programs.identity import Identity
from enclave.programs.mailbox import Mailbox
from enclave.programs.opening import Contribution, open_contribution
from enclave.programs.peer import AGGREGATOR, Peer
from enclave.programs.program import Report
from enclave.programs.round_ledger import RoundLedger
from enclave.programs.slice_instances import SliceInstances
from enclave.training.metrics import Scores
from enclave.training.tensors import State, as_file, shapes


class Rounds(RoundLedger):
    """All rounds of a run, in one aggregator."""

    def __init__(self, identity: Identity, mailbox: Mailbox, admission: Admission) -> None:
        super().__init__(identity, mailbox)
        self._admission = admission
        self._slice_instances = SliceInstances(identity.manifest.aggregation.instances)
        self._confirmed = True

    def status(self) -> AggregatorStatus:
        """Where the run stands, and the sites whose client slices are admitted."""
        return AggregatorStatus(self.latest.round, self.latest.hash, tuple(sorted(self._admission.newest())))

    def admit(self, site: str, evidence: Evidence, committed: Committed | None = None) -> Held | None:
        """Let a site's client slice in, count its instance, and, behind a public front, hold its site to the
        features that it has committed to.

        Raises: `admission.too_many_instances`, `front.not_committed`, `front.another_commitment`, and what
        `Admission.admit` raises.
        """
        key, run, features = evidence.claims.signing_key, self._identity.manifest_hash, None
        if (self.manifest.front is None) != (committed is None):
            raise Refusal("front.not_committed", site=site)
        if committed is not None:
            require_committed(run, site, committed, key)
            features = committed.features
        self._slice_instances.require(site, key, features)
        self._admission.admit(site, evidence)
        begun = self._slice_instances.count(site, key, features)
        if features is None:
            return None
        return hold(run, site, features, key, begun, self._identity.signing)

    def restore(self, sha256: str) -> Restored:
        """See `RoundLedger.restore`."""
        restored = super().restore(sha256)
        assert self.latest.receipt is not None
        self._slice_instances.restore(self.latest.receipt)
        self._confirmed = False
        return restored

    def inspect(self, round: int, site: str, sha256: str) -> Inspected:
        """Open and check one contribution before the roster is fixed, and forget it. Sites countersign once a
        round: a contribution that turns out bad after that costs the round."""
        self.require_open(round)
        contribution = self._open(round, site, sha256, self.latest.state, None)
        return Inspected(site, sha256, contribution.enclosed.samples)

    def aggregate(
        self, round: int, roster: Roster, countersignatures: Mapping[str, str], report: Report
    ) -> RoundDone:
        """Average the countersigned contributions, seal the next parameters and this enclave's state, and
        sign the receipt. In the closing round the next parameters are those of the best one; the test makes
        none. Each contribution is opened, checked in full, added and forgotten before the next; if one is
        refused, the sum is dropped whole, and nothing of it has left this call.

        Raises: `round.already_aggregated`, `round.out_of_order`, `round.finished`, `roster.*`, and what
        `open_contribution` raises.
        """
        self.require_open(round)
        self.require_roster(round, roster, countersignatures)
        averager, kind = Averager(self.manifest, len(roster.inputs)), kind_of(self.manifest, round)
        template = start = self.latest.state
        inputs: list[ReceiptInput] = []
        scores: dict[str, Scores] = {}
        for entry in roster.inputs:
            report(Progress("opening", len(inputs), len(roster.inputs)))
            found = self._open(round, entry.site, entry.sha256, template, start)
            template, start = template or shapes(found.state), start or found.start
            samples, scores[entry.site] = found.enclosed.samples, found.enclosed.scores
            inputs.append(ReceiptInput(entry.site, entry.sha256, found.sealed.bytes, samples))
            if kind == "update":
                averager.add(entry.site, samples, found.state, start)
            del found  # before the next one is opened
        state, output, averaged, recipients = self.latest.state, None, None, None
        steered = self.steer(round, scores, roster)
        spent = None if self.latest.receipt is None else self.latest.receipt.privacy
        if kind == "update":
            pooled = list(scores) if roster.pooled else []
            count = counted(self._identity.approvals, pooled)
            averaged = averager.average(spent, count, start, self.latest.moments)
            state, spent = averaged.state, averaged.spent
        elif kind == "closing":
            state = self.chosen(steered)
        if kind != "test":
            assert state is not None  # `require_open`: no closing round comes first
            recipients = self._slice_instances.recipients(self._admission.newest())
            output = self._seal_next(round, state, recipients)
        result = self.enter(
            round,
            roster,
            inputs,
            steered,
            state=state,
            output=output,
            averaging=None if averaged is None else averaged.averaging,
            privacy=spent,
            instances=self._slice_instances.published(recipients),
            more={"averaging": averaged.metrics} if averaged is not None and averaged.metrics else None,
            moments=None if averaged is None else averaged.moments,
        )

        assert self.latest.receipt is not None
        self._slice_instances.entered(self.latest.receipt)
        self._confirmed = True
        return result

    def reissue(self) -> Reissued:
        """Seal the last global parameters again, for the client slices that are admitted now. A client
        slice that was started again, or came late, goes on with this; a second one of its site in the same
        round does not.

        Raises: `round.nothing_yet`, and `round.not_confirmed` after a restore.
        """
        latest = self.latest
        if latest.receipt is None or latest.state is None:
            raise Refusal("round.nothing_yet")
        if not self._confirmed:
            raise Refusal("round.not_confirmed")
        heirs = self._slice_instances.heirs(self._admission.newest())
        sealed = self._seal_next(latest.round, latest.state, heirs)
        self._slice_instances.hand_over(heirs)
        statement = Reissue(self._identity.manifest_hash, latest.hash, sealed.sha256)
        signed = sign_reissue(statement, self._identity.signing)
        return Reissued(sealed, signed, tuple(sorted(peer.signing_key for peer in heirs.values())))

    def _open(
        self, round: int, site: str, sha256: str, template: State | None, start: State | None
    ) -> Contribution:
        return open_contribution(
            self._identity,
            self._mailbox,
            site=site,
            sha256=sha256,
            round=round,
            instances=lambda: self._slice_instances.may_contribute(site, self._admission.instances(site)),
            previous=self.latest.hash,
            template=template,
            start=start,
        )

    def _seal_next(self, round: int, state: State, recipients: Mapping[str, Peer]) -> FileRef:
        """One stream for one instance of each site."""
        return self._mailbox.outgoing(
            lambda file: seal(
                as_file(state),
                file,
                binding=Binding(self._identity.manifest_hash, round, "next", AGGREGATOR),
                recipients={site: peer.hpke_key for site, peer in recipients.items()},
                signer=self._identity.signing,
            )
        )
