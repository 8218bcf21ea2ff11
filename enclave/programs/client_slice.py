"""The enclave program `client_slice`: holds a site's rows and the tuned parameters, trains, and seals for the
aggregator that it has verified itself."""

from __future__ import annotations

from attestation.sources import Source
from contracts import client_slice_calls as calls
from contracts.program_calls import Challenge, Nothing
from contracts.progress import Progress
from contracts.refusal import Refusal
from enclave.programs.admission import Admission
from enclave.programs.client_rounds import ClientRounds
from enclave.programs.identity import Identity
from enclave.programs.in_public import require_in_log
from enclave.programs.mailbox import Mailbox
from enclave.programs.peer import AGGREGATOR
from enclave.programs.program import EnclaveProgram, Operation, Report, main, operations


class ClientSlice(EnclaveProgram):
    """Trains one site's slice of a run. It seals nothing before it has verified the aggregator."""

    name = "client_slice"

    def __init__(self, source: Source, mailbox: Mailbox) -> None:
        super().__init__(source, mailbox)
        self._aggregators: Admission | None = None
        self._client_rounds: ClientRounds | None = None
        self.operations |= operations(
            Operation(calls.CHALLENGE, self._challenge),
            Operation(calls.ADMIT, self._admit),
            Operation(calls.LOAD, self._load),
            Operation(calls.TRAIN, self._train),
            Operation(calls.EVALUATE, self._evaluate),
        )

    @property
    def aggregators(self) -> Admission:
        """Raises: `program.not_bound`."""
        if self._aggregators is None:
            raise Refusal("program.not_bound")
        return self._aggregators

    @property
    def client_rounds(self) -> ClientRounds:
        """Raises: `slice.not_loaded`."""
        if self._client_rounds is None:
            raise Refusal("slice.not_loaded")
        return self._client_rounds

    def bound(self, identity: Identity) -> None:
        """See `EnclaveProgram.bound`. What only some manifests need is loaded for those."""
        self._aggregators = Admission(identity, "aggregator")
        if identity.manifest.masking is not None:
            from enclave.programs import slice_offloaded

            self.operations |= slice_offloaded.offered(lambda: self.client_rounds, self.mailbox.folder)
        if identity.manifest.front is not None:
            from enclave.programs import slice_front

            self.operations |= slice_front.offered(identity, self._aggregators, lambda: self.client_rounds)

    def _challenge(self, _arguments: Nothing, _report: Report) -> Challenge:
        return Challenge(self.aggregators.challenge(AGGREGATOR))

    def _admit(self, arguments: calls.AdmitAggregatorArguments, _report: Report) -> Nothing:
        aggregators, evidence = self.aggregators, arguments.evidence
        require_in_log(self.identity.manifest, evidence.claims, arguments.logged)
        aggregators.admit(AGGREGATOR, evidence)
        return Nothing()

    def _load(self, arguments: calls.LoadArguments, report: Report) -> calls.Loaded:
        if self._client_rounds is not None:
            raise Refusal("slice.already_loaded")
        manifest = self.identity.manifest
        site = manifest.site(arguments.site).id
        report(Progress("loading"))
        # Not at the start: transformers takes seconds to import, and nobody should wait for evidence.
        from enclave.slicing.eager import run_eagerly

        run_eagerly()
        from enclave.programs.learner import load_learner
        from enclave.slicing.memory import return_large_blocks

        return_large_blocks()
        folder = self.mailbox.folder
        features = None if arguments.features is None else folder / arguments.features
        dataset, key = folder / arguments.dataset, bytes.fromhex(arguments.key)
        learner = load_learner(manifest, site, folder / arguments.model, dataset, key, folder, features)
        self._client_rounds = ClientRounds(self.identity, self.mailbox, self.aggregators, learner)
        parts = (learner.training, learner.validation, learner.test)
        cut, left_out = sum(part.cut for part in parts), sum(part.left_out for part in parts)
        training, validation, test = map(len, parts)
        return calls.Loaded(site, training, validation, test, cut, left_out)

    def _train(self, arguments: calls.RoundArguments, report: Report) -> calls.Contributed:
        return self.client_rounds.train(arguments.round, arguments.previous, report)

    def _evaluate(self, arguments: calls.RoundArguments, report: Report) -> calls.Contributed:
        return self.client_rounds.evaluate(arguments.round, arguments.previous, report)


if __name__ == "__main__":
    main(ClientSlice)
