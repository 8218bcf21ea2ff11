"""The enclave program `aggregator`: admits the sites' client slices and averages what they seal for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta, Struct

from attestation.sources import Source
from contracts.commitment import Committed
from contracts.endorsement import require_endorsement
from contracts.evidence import Evidence
from contracts.policy import Hex32
from contracts.refusal import Refusal
from contracts.roster import Roster
from enclave.programs.admission import Admission
from enclave.programs.identity import Identity
from enclave.programs.mailbox import Mailbox
from enclave.programs.program import EnclaveProgram, NoArguments, Operation, Report, main
from enclave.programs.rounds import Rounds

if TYPE_CHECKING:
    from enclave.programs.releasing import ReleaseArguments
    from enclave.training.tensors import State

RoundNumber = Annotated[int, Meta(ge=1, lt=2**31)]


class ChallengeArguments(Struct, forbid_unknown_fields=True, frozen=True):
    """The site whose client slice is to show evidence."""

    site: str


class AdmitClientArguments(Struct, forbid_unknown_fields=True, frozen=True):
    """The evidence of a site's client slice, the site key's signature over its claims (hex), and, in a run
    with a public front, the features that it has committed to."""

    site: str
    evidence: Evidence
    endorsement: str
    features: Committed | None = None


class InspectArguments(Struct, forbid_unknown_fields=True, frozen=True):
    """A contribution at `in/<sha256>`."""

    round: RoundNumber
    site: str
    sha256: Hex32


class AggregateArguments(Struct, forbid_unknown_fields=True, frozen=True):
    """The roster, whose inputs lie in the mailbox, and the listed sites' signatures on it (hex)."""

    round: RoundNumber
    roster: Roster
    countersignatures: dict[str, str]


class RestoreArguments(Struct, forbid_unknown_fields=True, frozen=True):
    """Sealed state at `in/<sha256>`."""

    state: Hex32


class Aggregator(EnclaveProgram):
    """Averages sealed contributions of admitted client slices; nobody else sees one of them."""

    name = "aggregator"

    def __init__(self, source: Source, mailbox: Mailbox) -> None:
        super().__init__(source, mailbox)
        self._admission: Admission | None = None
        self._rounds: Rounds | None = None
        self.operations |= {
            "challenge": Operation(ChallengeArguments, self._challenge),
            "admit": Operation(AdmitClientArguments, self._admit),
            "inspect": Operation(InspectArguments, self._inspect),
            "aggregate": Operation(AggregateArguments, self._aggregate),
            "reissue": Operation(NoArguments, lambda _arguments, _report: self.rounds.reissue()),
            "restore": Operation(RestoreArguments, self._restore),
            "status": Operation(NoArguments, lambda _arguments, _report: self.rounds.status()),
        }

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
            from enclave.programs.releasing import ReleaseArguments

            self.operations["release"] = Operation(ReleaseArguments, self._release)

    def _challenge(self, arguments: ChallengeArguments, _report: Report) -> dict[str, Any]:
        site = self.identity.manifest.site(arguments.site)
        return {"nonce": self.admission.challenge(site.id)}

    def _admit(self, arguments: AdmitClientArguments, _report: Report) -> dict[str, Any]:
        site = self.identity.manifest.site(arguments.site)
        require_endorsement(site.id, site.public_key, arguments.evidence.claims, arguments.endorsement)
        appraisal, held = self.rounds.admit(site.id, arguments.evidence, arguments.features)
        return msgspec.to_builtins({"appraisal": appraisal, "held": held})

    def _inspect(self, arguments: InspectArguments, _report: Report) -> dict[str, Any]:
        return self.rounds.inspect(arguments.round, arguments.site, arguments.sha256)

    def _aggregate(self, arguments: AggregateArguments, report: Report) -> dict[str, Any]:
        return self.rounds.aggregate(arguments.round, arguments.roster, arguments.countersignatures, report)

    def _restore(self, arguments: RestoreArguments, _report: Report) -> dict[str, Any]:
        return self.rounds.restore(arguments.state)

    def _release(self, arguments: ReleaseArguments, _report: Report) -> dict[str, Any]:
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
