"""What both server enclaves keep of a run: where it stands, which round may come next, and the chain of
receipts.

A round is entered once, over the inputs that the sites have countersigned, and leaves a receipt that is
chained to the last. Everything here runs inside the enclave. A refusal changes nothing: what a round made
becomes the enclave's own state in one assignment, after all its files are out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from contracts.course import may_follow
from contracts.manifest import Manifest
from contracts.receipts import (
    NO_RECEIPT,
    Averaging,
    InstanceCount,
    Receipt,
    ReceiptInput,
    Scoring,
    Spent,
    receipt_hash,
)
from contracts.refusal import Refusal
from contracts.roster import Roster, roster_hash, verify_roster
from contracts.round_kind import kind_of
from contracts.sealed.container import FileRef
from contracts.server_calls import Restored, RoundDone
from contracts.server_statements import sign_receipt
from enclave.programs.identity import Identity
from enclave.programs.mailbox import Mailbox
from enclave.programs.publication import Published, publish
from enclave.programs.run_checkpoint import Pins, load_checkpoint, save_checkpoint
from enclave.programs.statekeys import StateKeys
from enclave.programs.steering import Steered, steer
from enclave.training.metrics import Scores
from enclave.training.tensors import State


@dataclass(frozen=True)
class LatestRound:
    """Where the run stands: the last receipt, the global parameters after it, and the `best` that a round
    has made so far. `restarts` counts the instances of the enclave before this one; `own` says that this
    instance itself has made the receipt. `pins` are the hashes of the sites' features that were used so far
    (Method 2), `moments` those of the server's optimizer (enclave/training/server_step.py)."""

    receipt: Receipt | None = None
    state: State | None = None
    best: State | None = None
    restarts: int = 0
    own: bool = False
    pins: Pins = field(default_factory=dict)
    moments: State = field(default_factory=dict)

    @property
    def round(self) -> int:
        """The last round that was entered; 0 before the first."""
        return 0 if self.receipt is None else self.receipt.round

    @property
    def hash(self) -> str:
        """Hash of the last receipt."""
        return NO_RECEIPT if self.receipt is None else receipt_hash(self.receipt)


class RoundLedger:
    """The rounds of one run, in one enclave. `template` has the tensors that sealed state must hold; None
    lets the state itself show them."""

    def __init__(self, identity: Identity, mailbox: Mailbox, template: State | None = None) -> None:
        self._identity = identity
        self._mailbox = mailbox
        self._template = template
        self.latest = LatestRound()
        self.keys = StateKeys(identity)

    @property
    def manifest(self) -> Manifest:
        return self._identity.manifest

    def require_open(self, round: int) -> None:
        """Raises: `round.already_aggregated`, `round.out_of_order`, `round.finished` or
        `round.nothing_yet`.
        """
        reached, manifest = self.latest.round, self.manifest
        if reached == manifest.last_round:
            raise Refusal("round.finished", rounds=manifest.training.rounds)
        if round == reached:
            raise Refusal("round.already_aggregated", round=round)
        if self.latest.receipt is None and kind_of(manifest, round) != "update":
            raise Refusal("round.nothing_yet")
        # A round may be given up (a contributor was lost before it had countersigned), but never done again.
        if not may_follow(manifest, self.latest.receipt, round):
            raise Refusal("round.out_of_order", asked=round, expected=reached + 1)

    def require_roster(self, round: int, roster: Roster, countersignatures: Mapping[str, str]) -> None:
        """The roster is of this round, countersigned, and continues what this enclave has done.

        Raises: `roster.*` or `round.wrong_receipt`.
        """
        verify_roster(roster, countersignatures, self.manifest, self._identity.approvals)
        if roster.round != round:
            raise Refusal("roster.invalid", round=round, fault="it is for another round")
        if roster.previous != self.latest.hash:
            raise Refusal(
                "round.wrong_receipt",
                round=round,
                fault="the sites have seen another one than this enclave has made",
            )

    def enter(
        self,
        round: int,
        roster: Roster,
        inputs: Sequence[ReceiptInput],
        steered: Steered,
        *,
        state: State | None,
        output: FileRef | None,
        averaging: Averaging | None = None,
        privacy: Spent | None = None,
        instances: tuple[InstanceCount, ...] = (),
        more: Mapping[str, Any] | None = None,
        aside: Mapping[str, Any] | None = None,
        pins: Pins | None = None,
        moments: State | None = None,
    ) -> RoundDone:
        """Seal the state, sign the receipt, and stand there from now on; the round's result.

        `more` holds further groups of numbers for receipt and page, `aside` for the page alone.
        """
        published, kind = steered.published, kind_of(self.manifest, round)
        metrics = {
            **({"test" if kind == "test" else "pooled": published.numbers} if published.numbers else {}),
            **({"stopping": steered.stopping} if steered.stopping else {}),
            **(more or {}),
        }
        draft = self._draft(round, roster, inputs, output, metrics, published.scoring, averaging, privacy)
        draft = msgspec.structs.replace(draft, instances=instances, best=steered.best)
        best = steered.state if kind == "update" else None
        kept = save_checkpoint(
            self._identity, self._mailbox, self.keys, draft, state or {}, best, pins or {}, moments or {}
        )
        signed = sign_receipt(kept.receipt, self._identity.signing)
        restarts = self.latest.restarts
        self.latest = LatestRound(
            signed.receipt, state, best, restarts, own=True, pins=kept.pins, moments=kept.moments
        )
        return RoundDone(output, kept.sealed, {**metrics, **(aside or {})}, signed)

    def steer(self, round: int, scores: Mapping[str, Scores], roster: Roster) -> Steered:
        """What becomes of the run by a round's scores, which are the sites' own: nobody outside sees them."""
        published, kind = self._publish(scores, roster), kind_of(self.manifest, round)
        return steer(self.latest, kind, published, self.manifest.training.patience)

    def chosen(self, steered: Steered) -> State | None:
        """The run's parameters from the closing round on: the best round's, else the last ones."""
        return self.latest.state if steered.best is None else steered.state

    def _publish(self, scores: Mapping[str, Scores], roster: Roster) -> Published:
        """What of a round's scores may be told, where the sites have signed that they may."""
        receipt = self.latest.receipt
        before = None if receipt is None else receipt.scoring
        fixed = () if before is None else before.sites
        rules, coded = self.manifest.publication, self.manifest.coded
        published = publish(rules, scores, fixed, self._identity.approvals, coded)
        if not roster.pooled and published.scoring.withheld is None:
            return Published({}, Scoring(fixed, "not_pooled"))
        return published

    def restore(self, sha256: str) -> Restored:
        """Go on where an earlier instance of this program stopped, from the state that it sealed.

        The host may bring an old state. Then the next roster, which the sites countersign, names a later
        receipt than the one that is restored here, and `require_roster` refuses it.

        Raises: `state.*` or `sealing.*`.
        """
        if self.latest.receipt is not None:
            raise Refusal("state.not_fresh")
        kept = load_checkpoint(self._identity, self._mailbox, self.keys, sha256, self._template)
        restarts = kept.receipt.restarts + 1
        self.latest = LatestRound(
            kept.receipt, kept.state, kept.best, restarts, pins=kept.pins, moments=kept.moments
        )
        return Restored(self.latest.round, self.latest.hash)

    def _draft(
        self,
        round: int,
        roster: Roster,
        inputs: Sequence[ReceiptInput],
        output: FileRef | None,
        metrics: dict[str, Any],
        scoring: Scoring,
        averaging: Averaging | None,
        privacy: Spent | None,
    ) -> Receipt:
        identity = self._identity
        return Receipt(
            version=1,
            manifest=identity.manifest_hash,
            run=self.manifest.run,
            round=round,
            roster=roster_hash(roster),
            inputs=tuple(inputs),
            output=None if output is None else output.sha256,
            state=None,
            metrics=metrics,
            previous=self.latest.hash,
            program=identity.program,
            measurement=identity.measurement,
            development=self.manifest.policy.root == "development",
            issued=identity.clock.now(),
            restarts=self.latest.restarts,
            averaging=averaging,
            privacy=privacy,
            scoring=scoring,
        )
