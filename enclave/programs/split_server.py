"""The enclave program `split_server`: Method 2's server. It trains the tail on the sites' sealed features."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.sources import Source
from contracts import split_server_calls as calls
from contracts.progress import Progress
from contracts.receipts import ReceiptInput
from contracts.refusal import Refusal
from contracts.server_calls import RESTORE, ClosingArguments, RoundDone
from enclave.programs.identity import Identity
from enclave.programs.mailbox import Mailbox
from enclave.programs.program import EnclaveProgram, Operation, Report, main, operations

if TYPE_CHECKING:
    from enclave.programs.afterwards import Afterwards
    from enclave.programs.tail_rounds import TailRounds


class SplitServer(EnclaveProgram):
    """Trains the tail of a model on features that the sites have sealed for it, and serves it to them."""

    name = "split_server"

    def __init__(self, source: Source, mailbox: Mailbox) -> None:
        super().__init__(source, mailbox)
        self._rounds: TailRounds | None = None
        self._afterwards: Afterwards | None = None
        self.operations |= operations(
            Operation(calls.PREPARE, self._prepare),
            Operation(calls.FEATURES, self._features),
            Operation(calls.TRAIN, self._train),
            Operation(calls.EVALUATE, self._evaluate),
            Operation(RESTORE, lambda arguments, _report: self.rounds.restore(arguments.state)),
            Operation(calls.STATUS, lambda _arguments, _report: self.rounds.status()),
        )

    @property
    def rounds(self) -> TailRounds:
        """Raises: `tail.not_prepared`."""
        if self._rounds is None:
            raise Refusal("tail.not_prepared")
        return self._rounds

    def bound(self, identity: Identity) -> None:
        """See `EnclaveProgram.bound`. Nothing leaves a run whose rule is `nothing`: it loads no way to."""
        if identity.manifest.release.rule != "nothing":
            from enclave.programs.afterwards import Afterwards

            self._afterwards = Afterwards(identity, self.mailbox, lambda: self.rounds)
            self.operations |= self._afterwards.operations

    def _prepare(self, arguments: calls.PrepareTailArguments, report: Report) -> calls.TailSize:
        if self._rounds is None:
            report(Progress("loading"))
            # Not at the start: transformers takes seconds to import, and nobody should wait for evidence.
            from enclave.slicing.eager import run_eagerly

            run_eagerly()
            from enclave.programs.tail import load_tail
            from enclave.programs.tail_rounds import TailRounds

            folder = self.mailbox.folder
            learner = load_tail(self.identity.manifest, folder / arguments.model, folder)
            self._rounds = TailRounds(self.identity, self.mailbox, learner)
        return self._rounds.size

    def _features(self, arguments: calls.FeaturesArguments, report: Report) -> ReceiptInput:
        return self.rounds.take(arguments.site, arguments.keys, report).input

    def _train(self, arguments: ClosingArguments, report: Report) -> RoundDone:
        return self._in_round().train(arguments.round, arguments.roster, arguments.countersignatures, report)

    def _evaluate(self, arguments: ClosingArguments, report: Report) -> RoundDone:
        return self._in_round().evaluate(
            arguments.round, arguments.roster, arguments.countersignatures, report
        )

    def _in_round(self) -> TailRounds:
        """A round changes the tail, also one that is refused: what answers questions is made again."""
        if self._afterwards is not None:
            self._afterwards.forget()
        return self.rounds


if __name__ == "__main__":
    main(SplitServer)
