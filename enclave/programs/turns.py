"""A site's turns in the rounds: take the last round's sealed state, score it, train on it, seal the result.

Everything here runs inside the client slice's enclave.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from contracts.refusal import Refusal
from contracts.sealed.stream import Binding, unseal
from enclave.programs.admission import Admission
from enclave.programs.contributions import Enclosed, seal_contribution
from enclave.programs.history import History, Previous
from enclave.programs.identity import Identity
from enclave.programs.mailbox import MAX_PLAINTEXT_BYTES, BoundedBuffer, Filed, Mailbox
from enclave.programs.peer import AGGREGATOR
from enclave.programs.program import Report
from enclave.programs.schedule import Kind, kind_of, last_round, shows_start
from enclave.programs.template import State, with_start
from enclave.training.metrics import Scores
from enclave.training.tensors import from_bytes

if TYPE_CHECKING:
    from enclave.programs.learner import Learner


class Turns:
    """All turns of one site in one run. `aggregators` holds the lives of the aggregator that were verified
    here."""

    def __init__(
        self, identity: Identity, mailbox: Mailbox, aggregators: Admission, learner: Learner
    ) -> None:
        self._identity = identity
        self._mailbox = mailbox
        self._aggregators = aggregators
        self._learner = learner
        self._history = History(identity)
        self.round = 0

    def accelerate(self, channel: Path) -> str:
        """Use the accelerator behind this channel from now on; how it calls itself. Refuses with
        `slice.no_accelerator`, `accelerator.bad_channel` or `masking.weights_changed`."""
        return self._learner.placement.accelerate(channel)

    def prepare(self, round: int, report: Report) -> None:
        """In idle time: make the pads of a coming round, which then begins at once. Refuses with
        `round.finished`, `round.out_of_order` or `slice.not_accelerated`."""
        manifest = self._identity.manifest
        if round > last_round(manifest):
            raise Refusal("round.finished", rounds=manifest.training.rounds)
        if round < self.round:
            raise Refusal("round.out_of_order", asked=round, expected=self.round)
        self._learner.get_ready(round, kind_of(manifest, round), report)

    def train(self, round: int, previous: Previous | None, report: Report) -> dict[str, Any]:
        """Score the incoming parameters, train on them, and seal the update for the aggregator.

        A round may be asked for again (its lease was lost): the same rows and seeds give the same update.
        Refuses with `admission.not_admitted`, `round.*`, and what `History.check` and `unseal` refuse with.
        """
        self._begin(round, previous, "update")
        self._learner.get_ready(round, "update", report)
        scores = self._learner.evaluate(report)
        result, state = self._learner.train(round, report)
        if shows_start(self._identity.manifest, self._history.last_hash):
            state = with_start(state, self._learner.initial)
        update = self._seal(round, scores, result.samples, state)
        return self._result(update, result.samples, scores)

    def evaluate(self, round: int, previous: Previous | None, report: Report) -> dict[str, Any]:
        """The closing evaluation: only the scores are sealed. Refuses as `train` does."""
        self._begin(round, previous, "evaluation")
        self._learner.get_ready(round, "evaluation", report)
        scores = self._learner.evaluate(report)
        return self._result(self._seal(round, scores, 0, {}), 0, scores)

    def _begin(self, round: int, previous: Previous | None, kind: Kind) -> None:
        manifest = self._identity.manifest
        self._identity.clock.now()
        self._aggregators.lives(AGGREGATOR)
        if round > last_round(manifest):
            raise Refusal("round.finished", rounds=manifest.training.rounds)
        if round < self.round or kind_of(manifest, round) != kind:
            raise Refusal("round.out_of_order", asked=round, expected=max(self.round, 1))
        if previous is None:
            self._history.check_beginning(round)
            self._learner.start_from(None)
        else:
            self._learner.start_from(self._open(round, previous))
            self._history.remember(previous.receipt.receipt)
        self.round = round

    def _open(self, round: int, previous: Previous) -> State:
        attested = {life.signing_key for life in self._aggregators.lives(AGGREGATOR)}
        sealer = self._history.check(previous, round=round, attested=attested)
        sealed_in = previous.receipt.receipt.round
        plain = BoundedBuffer(MAX_PLAINTEXT_BYTES)
        with self._mailbox.incoming(previous.sha256) as file:
            unseal(
                file,
                plain,
                binding=Binding(self._identity.manifest_hash, sealed_in, "next", AGGREGATOR),
                recipient=self._learner.site,
                key=self._identity.hpke,
                sender_key=sealer,
            )
        return from_bytes(plain.getvalue(), self._learner.initial)[0]

    def _seal(self, round: int, scores: Scores, samples: int, state: State) -> Filed:
        return seal_contribution(
            self._identity,
            self._mailbox,
            site=self._learner.site,
            round=round,
            receiver=self._aggregators.lives(AGGREGATOR)[0],
            enclosed=Enclosed(self._history.last_hash, samples, scores),
            state=state,
        )

    def _result(self, update: Filed, samples: int, scores: Scores) -> dict[str, Any]:
        return {
            "update": msgspec.to_builtins(update),
            "samples": samples,
            "previous": self._history.last_hash,
            "metrics": scores.summary(),
            "measures": self._learner.placement.measures(),
        }
