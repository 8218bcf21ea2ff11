"""The enclave program `aggregator`: admits the sites' client slices and averages what they seal for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.sources import Source
from contracts import aggregator_calls as calls
from contracts.endorsement import require_endorsement
from contracts.program_calls import Challenge
from contracts.refusal import Refusal
from contracts.server_calls import RESTORE, ClosingArguments, RoundDone
from enclave.programs.admission import Admission
from enclave.programs.identity import Identity
from enclave.programs.mailbox import Mailbox
from enclave.programs.program import EnclaveProgram, Operation, Report, main, operations
from enclave.programs.rounds import Rounds

if TYPE_CHECKING:
    from contracts.release_calls import LetOut, ReleaseArguments
    from enclave.training.tensors import State


class Aggregator(EnclaveProgram):
    """Averages sealed contributions of admitted client slices; nobody else sees one of them."""

    name = "aggregator"

    def __init__(self, source: Source, mailbox: Mailbox) -> None:
        super().__init__(source, mailbox)
        self._admission: Admission | None = None
        self._rounds: Rounds | None = None
        self.operations |= operations(
            Operation(calls.CHALLENGE, self._challenge),
            Operation(calls.ADMIT, self._admit),
            Operation(calls.INSPECT, self._inspect),
            Operation(calls.AGGREGATE, self._aggregate),
            Operation(calls.REISSUE, lambda _arguments, _report: self.rounds.reissue()),
            Operation(RESTORE, lambda arguments, _report: self.rounds.restore(arguments.state)),
            Operation(calls.STATUS, lambda _arguments, _report: self.rounds.status()),
        )

    @property
    def admission(self) -> Admission:
        """Raises: `program.not_bound`."""
        if self._admission is None:
            raise Refusal("program.not_bound")
        return self._admission

    @property
    def rounds(self) -> Rounds:
        """Raises: `program.not_bound`."""
        if self._rounds is None:
            raise Refusal("program.not_bound")
        return self._rounds

    def bound(self, identity: Identity) -> None:
        """See `EnclaveProgram.bound`. A run that lets nothing out loads no way to."""
        self._admission = Admission(identity, "client_slice")
        self._rounds = Rounds(identity, self.mailbox, self._admission)
        if identity.manifest.release.rule in ("sealed-to-sites", "export"):
            from contracts.release_calls import RELEASE

            self.operations["release"] = Operation(RELEASE, self._release)

    def _challenge(self, arguments: calls.ChallengeArguments, _report: Report) -> Challenge:
        return Challenge(self.admission.challenge(self.identity.manifest.site(arguments.site).id))

    def _admit(self, arguments: calls.AdmitClientArguments, _report: Report) -> calls.Admitted:
        site = self.identity.manifest.site(arguments.site)
        require_endorsement(site.id, site.public_key, arguments.evidence.claims, arguments.endorsement)
        return calls.Admitted(self.rounds.admit(site.id, arguments.evidence, arguments.features))

    def _inspect(self, arguments: calls.InspectArguments, _report: Report) -> calls.Inspected:
        return self.rounds.inspect(arguments.round, arguments.site, arguments.sha256)

    def _aggregate(self, arguments: ClosingArguments, report: Report) -> RoundDone:
        return self.rounds.aggregate(arguments.round, arguments.roster, arguments.countersignatures, report)

    def _release(self, arguments: ReleaseArguments, _report: Report) -> LetOut:
        from enclave.programs.releasing import release
        from enclave.slicing.released import adapter_files, pack, pinned_config

        manifest, latest = self.identity.manifest, self.rounds.latest

        def package(state: State) -> bytes:
            config = pinned_config(self.mailbox.folder / arguments.model, manifest)
            return pack(manifest, latest.hash, adapter_files(manifest, state, config))

        # What this program restores was sealed by itself, so the approvals that the manifest demands are
        # enough.
        return release(
            self.identity, self.mailbox, latest, arguments, package, require_named=lambda _signed: None
        )


if __name__ == "__main__":
    main(Aggregator)
