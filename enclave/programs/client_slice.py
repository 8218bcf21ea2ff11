"""The enclave program `client_slice`: holds a site's rows and the tuned parameters, trains, and seals for the
aggregator that it has verified itself."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from attestation.sources import Source
from contracts.evidence import Evidence
from contracts.policy import Hex32
from contracts.previous import Previous
from contracts.progress import Progress
from contracts.refusal import Refusal
from enclave.programs.admission import Admission
from enclave.programs.client_rounds import ClientRounds, PathText, RoundNumber
from enclave.programs.identity import Identity
from enclave.programs.in_public import InLog, require_in_log
from enclave.programs.mailbox import Mailbox
from enclave.programs.peer import AGGREGATOR
from enclave.programs.program import EnclaveProgram, NoArguments, Operation, Report, main


class AdmitAggregatorArguments(Struct, forbid_unknown_fields=True, frozen=True):
    """The aggregator's evidence, and the proofs that it and the manifest stand in the log."""

    evidence: Evidence
    logged: InLog


class LoadArguments(Struct, forbid_unknown_fields=True, frozen=True):
    """The base model's folder and the normalised rows, absolute or inside the mailbox, whose rows they are,
    and the key of that site's dataset digests (hex). Behind a public front, also the rows' features."""

    model: PathText
    dataset: PathText
    site: str
    key: Hex32
    features: PathText | None = None


class RoundArguments(Struct, forbid_unknown_fields=True, frozen=True):
    """A round, and what it continues (null: the initial parameters)."""

    round: RoundNumber
    previous: Previous | None


class ClientSlice(EnclaveProgram):
    """Trains one site's slice of a run. It seals nothing before it has verified the aggregator."""

    name = "client_slice"

    def __init__(self, source: Source, mailbox: Mailbox) -> None:
        super().__init__(source, mailbox)
        self._aggregators: Admission | None = None
        self._client_rounds: ClientRounds | None = None
        self.operations |= {
            "challenge": Operation(NoArguments, self._challenge),
            "admit": Operation(AdmitAggregatorArguments, self._admit),
            "load": Operation(LoadArguments, self._load),
            "train": Operation(RoundArguments, self._train),
            "evaluate": Operation(RoundArguments, self._evaluate),
            "status": Operation(NoArguments, self._status),
        }

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

            self.operations |= slice_offloaded.operations(lambda: self.client_rounds, self.mailbox.folder)
        if identity.manifest.front is not None:
            from enclave.programs import slice_front

            self.operations |= slice_front.operations(identity, self._aggregators, lambda: self.client_rounds)

    def _challenge(self, _arguments: NoArguments, _report: Report) -> dict[str, Any]:
        return {"nonce": self.aggregators.challenge(AGGREGATOR)}

    def _admit(self, arguments: AdmitAggregatorArguments, _report: Report) -> dict[str, Any]:
        aggregators, evidence = self.aggregators, arguments.evidence
        require_in_log(self.identity.manifest, evidence.claims, arguments.logged)
        appraisal = aggregators.admit(AGGREGATOR, evidence)
        return {"appraisal": msgspec.to_builtins(appraisal)}

    def _load(self, arguments: LoadArguments, report: Report) -> dict[str, Any]:
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
        key = bytes.fromhex(arguments.key)
        features = None if arguments.features is None else folder / arguments.features
        dataset = folder / arguments.dataset
        learner = load_learner(manifest, site, folder / arguments.model, dataset, key, folder, features)
        self._client_rounds = ClientRounds(self.identity, self.mailbox, self.aggregators, learner)
        parts = (learner.training, learner.validation, learner.test)
        committed = None
        if learner.front is not None:
            from enclave.programs.slice_front import committed as commit

            committed = commit(self.identity, self._client_rounds)
        return {
            "site": site,
            "training_rows": len(learner.training),
            "validation_rows": len(learner.validation),
            "test_rows": len(learner.test),
            "features": msgspec.to_builtins(committed),
            "cut": sum(part.cut for part in parts),
            "left_out": sum(part.left_out for part in parts),
        }

    def _train(self, arguments: RoundArguments, report: Report) -> dict[str, Any]:
        return self.client_rounds.train(arguments.round, arguments.previous, report)

    def _evaluate(self, arguments: RoundArguments, report: Report) -> dict[str, Any]:
        return self.client_rounds.evaluate(arguments.round, arguments.previous, report)

    def _status(self, _arguments: NoArguments, _report: Report) -> dict[str, Any]:
        return {
            "bound": self._identity is not None,
            "admitted": self._aggregators is not None and bool(self._aggregators.newest()),
            "loaded": self._client_rounds is not None,
            "round": 0 if self._client_rounds is None else self._client_rounds.round,
        }


if __name__ == "__main__":
    main(ClientSlice)
