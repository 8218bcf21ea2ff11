"""A site's part in the rounds: take the last round's sealed state, score it, train on it, seal the result.

A round is answered once. Its scores and parameters leave sealed to the aggregator, and nothing that was
computed from parameters leaves otherwise. Everything here runs inside the client slice's enclave.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from contracts.client_slice_calls import Contributed
from contracts.previous import Previous
from contracts.receipts import NO_RECEIPT, receipt_hash
from contracts.refusal import Refusal
from contracts.round_kind import kind_of
from contracts.sealed.container import FileRef
from contracts.sealed.stream import Binding, unseal
from enclave.programs.admission import Admission
from enclave.programs.contributions import Enclosed, shows_start, with_start
from enclave.programs.history import History
from enclave.programs.identity import Identity
from enclave.programs.mailbox import MAX_PLAINTEXT_BYTES, BoundedBuffer, Mailbox
from enclave.programs.peer import AGGREGATOR
from enclave.programs.program import Report
from enclave.programs.sealing import seal_contribution
from enclave.training.metrics import Scores
from enclave.training.tensors import State, from_bytes

if TYPE_CHECKING:
    from enclave.programs.learner import Learner


@dataclass
class RoundAnswer:
    """What this instance has answered to a round on a receipt, what that cost, and how it was sealed, by the
    receiver's signing key. It stays in memory."""

    round: int
    enclosed: Enclosed
    state: State
    measures: dict[str, int | float]
    sealed: dict[str, FileRef]


class ClientRounds:
    """All rounds of one site in one run. `aggregators` holds the instances of the aggregator that were
    verified here."""

    def __init__(
        self, identity: Identity, mailbox: Mailbox, aggregators: Admission, learner: Learner
    ) -> None:
        self._identity = identity
        self._mailbox = mailbox
        self._aggregators = aggregators
        self.learner = learner
        self._history = History(identity)
        self._answer: RoundAnswer | None = None
        self.round = 0

    def train(self, round: int, previous: Previous | None, report: Report) -> Contributed:
        """Score the incoming parameters, train on them, and seal the update for the aggregator.

        Asked again (its lease was lost), it gives the same file. Nothing is computed again: an aggregator
        that was started again gets the same answer, sealed to its own keys.

        Raises: `admission.not_admitted`, `round.*`, and what `History.check` and `unseal` raises.
        """
        self._require(round, trains=True)
        if not self._is_answered(round, previous):
            scores = self._continue(round, previous, report)
            result, state = self.learner.train(round, report)
            if shows_start(self._identity.manifest, self._history.last_hash):
                state = with_start(state, self.learner.initial)
            self._remember(round, Enclosed(self._history.last_hash, result.samples, scores), state)
        return self._result()

    def evaluate(self, round: int, previous: Previous | None, report: Report) -> Contributed:
        """The closing round, and the test: only the scores are sealed. Answers again as `train` does.

        Raises: as `train`.
        """
        self._require(round, trains=False)
        if not self._is_answered(round, previous):
            scores = self._continue(round, previous, report)
            self._remember(round, Enclosed(self._history.last_hash, 0, scores), {})
        return self._result()

    def _require(self, round: int, *, trains: bool) -> None:
        manifest = self._identity.manifest
        self._identity.clock.now()
        self._aggregators.instances(AGGREGATOR)
        self.learner.require_right()
        if round > manifest.last_round:
            raise Refusal("round.finished", rounds=manifest.training.rounds)
        if round < self.round or (kind_of(manifest, round) == "update") != trains:
            raise Refusal("round.out_of_order", asked=round, expected=max(self.round, 1))

    def _is_answered(self, round: int, previous: Previous | None) -> bool:
        """Whether this question was answered before.

        Raises: `round.answered` where the round was, on another receipt.
        """
        answer = self._answer
        if answer is None or answer.round != round:
            return False
        asked = NO_RECEIPT if previous is None else receipt_hash(previous.receipt.receipt)
        if asked != answer.enclosed.previous:
            raise Refusal("round.answered", round=round)
        return True

    def _continue(self, round: int, previous: Previous | None, report: Report) -> Scores:
        """Take up the incoming parameters, and score them."""
        if previous is None:
            self._history.check_beginning(round)
            self.learner.start_from(None)
        else:
            self.learner.start_from(self._open(round, previous))
            self._history.remember(previous.receipt.receipt)
        self.round, kind = round, kind_of(self._identity.manifest, round)
        self.learner.get_ready(round, kind, report)
        return self.learner.evaluate(kind, report)

    def _remember(self, round: int, enclosed: Enclosed, state: State) -> None:
        self._answer = RoundAnswer(round, enclosed, state, self.learner.placement.measures(), {})

    def _open(self, round: int, previous: Previous) -> State:
        attested = {instance.signing_key for instance in self._aggregators.instances(AGGREGATOR)}
        sealer = self._history.check(previous, round=round, attested=attested)
        sealed_in = previous.receipt.receipt.round
        plain = BoundedBuffer(MAX_PLAINTEXT_BYTES)
        with self._mailbox.incoming(previous.sha256) as file:
            unseal(
                file,
                plain,
                binding=Binding(self._identity.manifest_hash, sealed_in, "next", AGGREGATOR),
                recipient=self.learner.site,
                key=self._identity.hpke,
                sender_key=sealer,
            )
        return from_bytes(plain.getvalue(), self.learner.initial)[0]

    def _seal(self, answer: RoundAnswer) -> FileRef:
        receiver = self._aggregators.instances(AGGREGATOR)[0]
        if receiver.signing_key not in answer.sealed:
            answer.sealed[receiver.signing_key] = seal_contribution(
                self._identity,
                self._mailbox,
                site=self.learner.site,
                round=answer.round,
                receiver=receiver,
                enclosed=answer.enclosed,
                state=answer.state,
            )
        return answer.sealed[receiver.signing_key]

    def _result(self) -> Contributed:
        """Raises: as `_seal`."""
        answer = self._answer
        assert answer is not None
        enclosed = answer.enclosed
        return Contributed(self._seal(answer), enclosed.samples, enclosed.previous, answer.measures)
