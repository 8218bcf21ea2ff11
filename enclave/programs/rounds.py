"""The aggregator's rounds: each is aggregated once, over the inputs that the sites have countersigned, and
leaves a receipt that is chained to the last.

Everything here runs inside the aggregator's enclave. A refusal changes nothing: what a round made becomes the
aggregator's own state in one assignment, after all its files are out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import msgspec

from enclave.errors import Refusal
from enclave.manifest import Manifest
from enclave.programs.admission import Admission
from enclave.programs.contributions import (
    AGGREGATOR,
    Contribution,
    kind_of,
    last_round,
    open_contribution,
)
from enclave.programs.history import Reissue, sign_reissue
from enclave.programs.identity import Identity
from enclave.programs.keeping import keep, unkeep
from enclave.programs.mailbox import Filed, Mailbox
from enclave.programs.program import Report
from enclave.programs.template import State
from enclave.sealing.receipts import NO_RECEIPT, Receipt, ReceiptInput, receipt_hash, sign_receipt
from enclave.sealing.roster import Roster, roster_hash, verify_roster
from enclave.sealing.stream import Binding, seal
from enclave.training.aggregate import fedavg
from enclave.training.metrics import Scores, pool
from enclave.training.tensors import to_bytes


@dataclass(frozen=True)
class Standing:
    """Where the run stands: the last receipt and the global parameters after it. `restarts` counts the lives
    of the aggregator before this one."""

    receipt: Receipt | None = None
    state: State | None = None
    restarts: int = 0

    @property
    def round(self) -> int:
        """The last round that was aggregated; 0 before the first."""
        return 0 if self.receipt is None else self.receipt.round

    @property
    def hash(self) -> str:
        """Hash of the last receipt."""
        return NO_RECEIPT if self.receipt is None else receipt_hash(self.receipt)


class Rounds:
    """All rounds of a run, in one aggregator."""

    def __init__(self, identity: Identity, mailbox: Mailbox, admission: Admission) -> None:
        self._identity = identity
        self._mailbox = mailbox
        self._admission = admission
        self._standing = Standing()
        self._last: dict[str, Any] | None = None

    @property
    def manifest(self) -> Manifest:
        return self._identity.manifest

    def status(self) -> dict[str, Any]:
        """The last round, its receipt's hash, and the result that `aggregate` gave for it (null after a
        restore)."""
        return {
            "round": self._standing.round,
            "receipt": self._standing.hash,
            "restarts": self._standing.restarts,
            "admitted": sorted(self._admission.newest()),
            "last": self._last,
        }

    def inspect(self, round: int, site: str, sha256: str) -> dict[str, Any]:
        """Open and check one contribution before the roster is fixed, and forget it. Sites countersign once a
        round: a contribution that turns out bad after that costs the round."""
        self._require_open(round)
        contribution = self._open(round, site, sha256, self._standing.state)
        return {"site": site, "sha256": sha256, "samples": contribution.enclosed.samples}

    def aggregate(
        self, round: int, roster: Roster, countersignatures: Mapping[str, str], report: Report
    ) -> dict[str, Any]:
        """Average the countersigned contributions, seal the next parameters and this enclave's state, and
        sign the receipt. In the closing evaluation only the scores are pooled.

        Refuses with `round.already_aggregated`, `round.out_of_order`, `round.finished`, `roster.*`, and what
        `open_contribution` refuses with.
        """
        self._require_open(round)
        self._require_roster(round, roster, countersignatures)
        contributions: list[Contribution] = []
        template = self._standing.state
        for entry in roster.inputs:
            report({"stage": "opening", "done": len(contributions), "of": len(roster.inputs)})
            contributions.append(self._open(round, entry.site, entry.sha256, template))
            template = template or contributions[0].state
        report({"stage": "averaging", "done": len(contributions), "of": len(contributions)})
        return self._conclude(round, roster, contributions)

    def restore(self, sha256: str) -> dict[str, Any]:
        """Go on where an earlier life of this aggregator stopped, from the state that it sealed.

        The host may bring an old state. Then the next roster, which the sites countersign, names a later
        receipt than the one that is restored here, and `aggregate` refuses it. Refuses with `state.*` or
        `sealing.*`.
        """
        if self._standing.receipt is not None:
            raise Refusal("state.not_fresh")
        kept = unkeep(self._identity, self._mailbox, sha256)
        self._standing = Standing(kept.receipt, kept.state, kept.receipt.restarts + 1)
        return {"round": self._standing.round, "receipt": self._standing.hash}

    def reissue(self) -> dict[str, Any]:
        """Seal the last global parameters again, for the client slices that are admitted now. A client slice
        that was started again, or came late, goes on with this. Refuses with `round.nothing_yet`."""
        standing = self._standing
        if standing.receipt is None or standing.state is None:
            raise Refusal("round.nothing_yet")
        sealed = self._seal_next(standing.round, standing.state)
        statement = Reissue(self._identity.manifest_hash, standing.hash, sealed.sha256)
        signed = sign_reissue(statement, self._identity.signing)
        return {"next": msgspec.to_builtins(sealed), "reissue": msgspec.to_builtins(signed)}

    def _require_open(self, round: int) -> None:
        reached = self._standing.round
        if reached == last_round(self.manifest):
            raise Refusal("round.finished", rounds=self.manifest.training.rounds)
        if round == reached:
            raise Refusal("round.already_aggregated", round=round)
        # A round may be given up (a contributor was lost before it had countersigned), but never done again.
        if not reached < round <= last_round(self.manifest):
            raise Refusal("round.out_of_order", asked=round, expected=reached + 1)
        if round == last_round(self.manifest) and self._standing.state is None:
            raise Refusal("round.nothing_yet")

    def _require_roster(self, round: int, roster: Roster, countersignatures: Mapping[str, str]) -> None:
        verify_roster(roster, countersignatures, self.manifest)
        if roster.round != round:
            raise Refusal("roster.invalid", round=round, fault="it is for another round")
        if roster.previous != self._standing.hash:
            raise Refusal(
                "round.wrong_receipt",
                round=round,
                fault="the sites have seen another one than this enclave has made",
            )

    def _open(self, round: int, site: str, sha256: str, template: State | None) -> Contribution:
        return open_contribution(
            self._identity,
            self._mailbox,
            site=self.manifest.site(site).id,
            sha256=sha256,
            round=round,
            lives=self._admission.lives(site),
            previous=self._standing.hash,
            template=template,
        )

    def _conclude(self, round: int, roster: Roster, contributions: list[Contribution]) -> dict[str, Any]:
        scores = {item.site: item.enclosed.scores for item in contributions}
        pooled = _numbers(pool(list(scores.values())))
        state, output = self._standing.state, None
        if kind_of(self.manifest, round) == "update":
            state = fedavg([(item.enclosed.samples, item.state) for item in contributions])
            output = self._seal_next(round, state)
        # Only pooled numbers go into the receipt: it goes to every site and to the log. The numbers of single
        # sites are for the coordinator.
        draft = self._draft(round, roster, contributions, output, {"pooled": pooled})
        kept = keep(self._identity, self._mailbox, draft, state or {})
        signed = sign_receipt(kept.receipt, self._identity.signing)
        result = {
            "next": None if output is None else msgspec.to_builtins(output),
            "state": None if kept.sealed is None else msgspec.to_builtins(kept.sealed),
            "metrics": {"pooled": pooled, "sites": {site: _numbers(score) for site, score in scores.items()}},
            "receipt": msgspec.to_builtins(signed),
        }
        self._standing = Standing(signed.receipt, state, self._standing.restarts)
        self._last = result
        return result

    def _draft(
        self,
        round: int,
        roster: Roster,
        contributions: list[Contribution],
        output: Filed | None,
        metrics: dict[str, Any],
    ) -> Receipt:
        identity = self._identity
        return Receipt(
            version=1,
            manifest=identity.manifest_hash,
            run=self.manifest.run,
            round=round,
            roster=roster_hash(roster),
            inputs=tuple(
                ReceiptInput(item.site, item.sealed.sha256, item.sealed.bytes, item.enclosed.samples)
                for item in contributions
            ),
            output=None if output is None else output.sha256,
            state=None,
            metrics=metrics,
            previous=self._standing.hash,
            program=identity.program,
            measurement=identity.measurement,
            development=self.manifest.policy.root == "development",
            issued=identity.clock.now(),
            restarts=self._standing.restarts,
        )

    def _seal_next(self, round: int, state: State) -> Filed:
        """One stream for all admitted client slices."""
        identity = self._identity
        return self._mailbox.outgoing(
            lambda file: seal(
                BytesIO(to_bytes(state)),
                file,
                binding=Binding(identity.manifest_hash, round, "next", AGGREGATOR),
                recipients={site: peer.hpke_key for site, peer in self._admission.newest().items()},
                signer=identity.signing,
            )
        )


def _numbers(scores: Scores) -> dict[str, float | int]:
    """The summary without what no JSON number can say (the perplexity of a model that has diverged)."""
    return {name: value for name, value in scores.summary().items() if math.isfinite(value)}
