"""The enclave program `split_server`: Method 2's server. It trains the tail on the sites' sealed features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta, Struct

from attestation.sources import Source
from contracts.policy import Hex32
from contracts.progress import Progress
from contracts.refusal import Refusal
from contracts.roster import Roster
from enclave.programs.identity import Identity
from enclave.programs.mailbox import Mailbox
from enclave.programs.program import EnclaveProgram, NoArguments, Operation, Report, main

if TYPE_CHECKING:
    from enclave.programs.afterwards import Afterwards
    from enclave.programs.tail_rounds import TailRounds

PathText = Annotated[str, Meta(min_length=1, max_length=2048)]


class TailPrepareArguments(Struct, forbid_unknown_fields=True, frozen=True):
    """The base model's folder, absolute or inside the mailbox."""

    model: PathText


class FeaturesArguments(Struct, forbid_unknown_fields=True, frozen=True):
    """A site's sealed keys at `in/<keys>`; the shards of its index lie beside them."""

    site: str
    keys: Hex32


class TailRoundArguments(Struct, forbid_unknown_fields=True, frozen=True):
    """The roster, whose entries name the sites' indexes, and the listed sites' signatures on it (hex)."""

    round: Annotated[int, Meta(ge=1, lt=2**31)]
    roster: Roster
    countersignatures: dict[str, str]


class RestoreTailArguments(Struct, forbid_unknown_fields=True, frozen=True):
    """Sealed state at `in/<sha256>`."""

    state: Hex32


class SplitServer(EnclaveProgram):
    """Trains the tail of a model on features that the sites have sealed for it, and serves it to them."""

    name = "split_server"

    def __init__(self, source: Source, mailbox: Mailbox) -> None:
        super().__init__(source, mailbox)
        self._rounds: TailRounds | None = None
        self._afterwards: Afterwards | None = None
        self.operations |= {
            "prepare": Operation(TailPrepareArguments, self._prepare),
            "features": Operation(FeaturesArguments, self._features),
            "train": Operation(TailRoundArguments, self._train),
            "evaluate": Operation(TailRoundArguments, self._evaluate),
            "restore": Operation(RestoreTailArguments, self._restore),
            "status": Operation(NoArguments, self._status),
        }

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

    def _prepare(self, arguments: TailPrepareArguments, report: Report) -> dict[str, Any]:
        if self._rounds is None:
            report(Progress("loading"))
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

    def _train(self, arguments: TailRoundArguments, report: Report) -> dict[str, Any]:
        return self._in_round().train(arguments.round, arguments.roster, arguments.countersignatures, report)

    def _evaluate(self, arguments: TailRoundArguments, report: Report) -> dict[str, Any]:
        return self._in_round().evaluate(
            arguments.round, arguments.roster, arguments.countersignatures, report
        )

    def _in_round(self) -> TailRounds:
        """A round changes the tail, also one that is refused: what answers questions is made again."""
        if self._afterwards is not None:
            self._afterwards.forget()
        return self.rounds

    def _restore(self, arguments: RestoreTailArguments, _report: Report) -> dict[str, Any]:
        return self.rounds.restore(arguments.state)

    def _status(self, _arguments: NoArguments, _report: Report) -> dict[str, Any]:
        bound = self._identity is not None
        if self._rounds is None:
            return {"bound": bound, "prepared": False, "round": 0}
        return {"bound": bound, "prepared": True, **self._rounds.status()}


if __name__ == "__main__":
    main(SplitServer)
