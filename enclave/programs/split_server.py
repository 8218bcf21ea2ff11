"""The enclave program `split_server`: Method 2's server. It trains the tail on the sites' sealed features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta, Struct

from attestation.sources import Source
from contracts.course import is_over
from contracts.policy import Hex32
from contracts.refusal import Refusal
from contracts.roster import Roster
from contracts.sealed.handback import take_back
from contracts.sealed.session import Base64, decode
from enclave.programs.mailbox import Mailbox
from enclave.programs.program import EnclaveProgram, NoArguments, Operation, Report, main
from enclave.programs.releasing import ReleaseArguments, release
from enclave.programs.serving import (
    CloseArguments,
    OpenArguments,
    RevokeArguments,
    ServeArguments,
    Served,
    Serving,
    StepArguments,
)

if TYPE_CHECKING:
    from enclave.programs.tail_rounds import TailRounds

PathText = Annotated[str, Meta(min_length=1, max_length=2048)]


class PrepareArguments(Struct, forbid_unknown_fields=True, frozen=True):
    """The base model's folder, absolute or inside the mailbox."""

    model: PathText


class FeaturesArguments(Struct, forbid_unknown_fields=True, frozen=True):
    """A site's sealed keys at `in/<keys>`; the shards of its index lie beside them."""

    site: str
    keys: Hex32


class RoundArguments(Struct, forbid_unknown_fields=True, frozen=True):
    """The roster, whose entries name the sites' indexes, and the listed sites' signatures on it (hex)."""

    round: Annotated[int, Meta(ge=1, lt=2**31)]
    roster: Roster
    countersignatures: dict[str, str]


class RestoreArguments(Struct, forbid_unknown_fields=True, frozen=True):
    """Sealed state at `in/<sha256>`."""

    state: Hex32


class ShareArguments(Struct, forbid_unknown_fields=True, frozen=True):
    """The last receipt that a site has seen, and its share of the state's key if it holds one, sealed to this
    enclave (`contracts.sealed.handback`)."""

    site: str
    sealed: Base64


class SplitServer(EnclaveProgram):
    """Trains the tail of a model on features that the sites have sealed for it, and serves it to them."""

    name = "split_server"

    def __init__(self, source: Source, mailbox: Mailbox) -> None:
        super().__init__(source, mailbox)
        self._rounds: TailRounds | None = None
        self._serving: Serving | None = None
        self._answers: Served | None = None
        self.operations |= {
            "prepare": Operation(PrepareArguments, self._prepare),
            "features": Operation(FeaturesArguments, self._features),
            "train": Operation(RoundArguments, self._train),
            "evaluate": Operation(RoundArguments, self._evaluate),
            "share": Operation(ShareArguments, self._share),
            "restore": Operation(RestoreArguments, self._restore),
            "release": Operation(ReleaseArguments, self._release),
            "status": Operation(NoArguments, self._status),
            "serve": Operation(ServeArguments, lambda told, _report: self.serving.begin(told)),
            "open": Operation(OpenArguments, lambda told, _report: self.serving.open(told.opening)),
            "step": Operation(StepArguments, lambda told, _report: self.serving.step(told)),
            "close": Operation(CloseArguments, lambda told, _report: self.serving.close(told.session)),
            "revoke": Operation(RevokeArguments, self._revoke),
            "meters": Operation(NoArguments, lambda _arguments, _report: self.serving.meters()),
        }

    @property
    def rounds(self) -> TailRounds:
        """Refuses with `tail.not_prepared`."""
        if self._rounds is None:
            raise Refusal("tail.not_prepared")
        return self._rounds

    @property
    def serving(self) -> Serving:
        """Refuses with `program.not_bound`."""
        if self._serving is None:
            self._serving = Serving(self.identity, self._served)
        return self._serving

    def _served(self) -> Served:
        """The tail with the parameters of the last round. Refuses with `serving.not_ready` while rounds still
        train, or with `state.not_named`."""
        if self._rounds is None:
            raise Refusal("serving.not_ready")
        standing, manifest = self._rounds.standing, self.identity.manifest
        if standing.receipt is None or standing.state is None or not is_over(manifest, standing.receipt):
            raise Refusal("serving.not_ready")
        self._rounds.require_named()
        if self._answers is None:
            from enclave.slicing.questions import Answers

            learner = self._rounds.learner
            learner.start_from(standing.state)
            self._answers = Answers(learner.tail, learner.manifest.model, self._rounds.standing.hash)
        return self._answers

    def _revoke(self, arguments: RevokeArguments, _report: Report) -> dict[str, Any]:
        return self.serving.revoke(arguments.sites)

    def _prepare(self, arguments: PrepareArguments, report: Report) -> dict[str, Any]:
        if self._rounds is None:
            report({"stage": "loading"})
            # Not at the start: transformers takes seconds to import, and nobody should wait for evidence.
            from enclave.slicing.eager import run_eagerly

            run_eagerly()
            from enclave.programs.tail import load_tail
            from enclave.programs.tail_rounds import TailRounds

            learner = load_tail(self.identity.manifest, self.mailbox.folder / arguments.model)
            self._rounds = TailRounds(self.identity, self.mailbox, learner)
        return self._rounds.size

    def _features(self, arguments: FeaturesArguments, report: Report) -> dict[str, Any]:
        held = self.rounds.take(arguments.site, arguments.keys, report)
        return msgspec.to_builtins(held.input)

    def _train(self, arguments: RoundArguments, report: Report) -> dict[str, Any]:
        self._answers = None  # a round changes the tail, also one that is refused
        return self.rounds.train(arguments.round, arguments.roster, arguments.countersignatures, report)

    def _evaluate(self, arguments: RoundArguments, report: Report) -> dict[str, Any]:
        self._answers = None
        return self.rounds.evaluate(arguments.round, arguments.roster, arguments.countersignatures, report)

    def _share(self, arguments: ShareArguments, _report: Report) -> dict[str, Any]:
        identity = self.identity
        member = identity.manifest.site(arguments.site)
        told = take_back(
            decode(arguments.sealed),
            manifest=identity.manifest_hash,
            site=member.id,
            site_key=member.public_key,
            key=identity.hpke,
        )
        self.rounds.hand_back(member.id, told)
        return {}

    def _restore(self, arguments: RestoreArguments, _report: Report) -> dict[str, Any]:
        return self.rounds.restore(arguments.state)

    def _release(self, arguments: ReleaseArguments, _report: Report) -> dict[str, Any]:
        rounds = self.rounds
        return release(
            self.identity,
            self.mailbox,
            rounds.standing,
            arguments,
            lambda state: rounds.learner.packed(rounds.standing.hash, state),
            require_named=rounds.require_named,
        )

    def _status(self, _arguments: NoArguments, _report: Report) -> dict[str, Any]:
        bound = self._identity is not None
        if self._rounds is None:
            return {"bound": bound, "prepared": False, "round": 0}
        return {"bound": bound, "prepared": True, **self._rounds.status()}


if __name__ == "__main__":
    main(SplitServer)
