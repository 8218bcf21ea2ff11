"""What a split server does after its run: it serves the tail to the sites, and lets its parameters out.

Loaded once a manifest is bound whose rule of release is not `nothing`: a run that ends with nothing has none
of these operations. Runs inside the split server's enclave.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from contracts import serving_calls as calls
from contracts.course import is_over
from contracts.kinds import SEVERAL
from contracts.program_calls import Nothing
from contracts.refusal import Refusal
from contracts.release_calls import RELEASE, LetOut, ReleaseArguments
from contracts.sealed.handback import take_back
from contracts.sealed.session import decode
from enclave.programs.identity import Identity
from enclave.programs.mailbox import Mailbox
from enclave.programs.program import Operation, Report, operations
from enclave.programs.releasing import release
from enclave.programs.serving import Served, Serving

if TYPE_CHECKING:
    from enclave.programs.tail_rounds import TailRounds


class Afterwards:
    """`rounds` gives the run's rounds, or refuses with `tail.not_prepared`."""

    def __init__(self, identity: Identity, mailbox: Mailbox, rounds: Callable[[], TailRounds]) -> None:
        self._identity, self._mailbox, self._rounds = identity, mailbox, rounds
        self._answers: Served | None = None
        serving = Serving(identity, self._served)
        self.operations = operations(
            Operation(calls.SHARE, self._share),
            Operation(RELEASE, self._release),
            Operation(calls.SERVE, lambda given, _report: serving.begin(given)),
            Operation(calls.OPEN, lambda given, _report: serving.open(given.opening)),
            Operation(calls.STEP, lambda given, _report: serving.step(given)),
            Operation(calls.CLOSE, lambda given, _report: serving.close(given.session)),
            Operation(calls.REVOKE, lambda given, _report: serving.revoke(given.sites)),
            Operation(calls.METERS, lambda _arguments, _report: serving.meters()),
        )

    def forget(self) -> None:
        """A round is about to change the tail."""
        self._answers = None

    def _served(self) -> Served:
        """The tail with the run's parameters.

        Raises: `serving.not_ready` while rounds still train, or `state.not_named`.
        """
        try:
            rounds = self._rounds()
        except Refusal as refusal:
            raise Refusal("serving.not_ready") from refusal
        latest = rounds.latest
        if latest.receipt is None or latest.state is None:
            raise Refusal("serving.not_ready")
        if not is_over(self._identity.manifest, latest.receipt):
            raise Refusal("serving.not_ready")
        rounds.require_named()
        if self._identity.manifest.release.answers:
            # Others that were brought through the same rounds may have made the same receipt, and each counts
            # answers for itself: the sites name it to so many enclaves and to no more.
            rounds.naming.require(latest.hash)
        if self._answers is None:
            from enclave.slicing.questions import TailAnswers

            learner = rounds.learner
            learner.start_from(latest.state)
            manifest = learner.manifest
            if manifest.model.task == "token-classification":
                raise Refusal("study.tags_not_served")
            self._answers = TailAnswers(
                learner.tail, manifest.model, latest.hash, several=manifest.coded == SEVERAL
            )
        return self._answers

    def _share(self, arguments: calls.ShareArguments, _report: Report) -> Nothing:
        identity = self._identity
        member = identity.manifest.site(arguments.site)
        given = take_back(
            decode(arguments.sealed),
            manifest=identity.manifest_hash,
            site=member.id,
            site_key=member.public_key,
            key=identity.hpke,
        )
        self._rounds().hand_back(member.id, given.receipt, given.share)
        return Nothing()

    def _release(self, arguments: ReleaseArguments, _report: Report) -> LetOut:
        rounds = self._rounds()
        return release(
            self._identity,
            self._mailbox,
            rounds.latest,
            arguments,
            lambda state: rounds.learner.packed(rounds.latest.hash, state),
            require_named=rounds.require_named,
        )
