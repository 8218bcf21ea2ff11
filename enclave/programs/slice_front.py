"""What a client slice does behind a public front: it commits to the features that its host has handed in, and
hears whether its site is held to them. Loaded once a manifest is bound that has one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from contracts.commitment import Committed, Held, commit, require_held
from contracts.front_calls import COMMIT, HELD
from contracts.program_calls import Nothing
from contracts.refusal import Refusal
from enclave.programs.admission import Admission
from enclave.programs.client_rounds import ClientRounds
from enclave.programs.identity import Identity
from enclave.programs.peer import AGGREGATOR
from enclave.programs.program import Operation, Report, operations

if TYPE_CHECKING:
    from enclave.programs.public_front import SiteFront


def offered(
    identity: Identity, aggregators: Admission, client_rounds: Callable[[], ClientRounds]
) -> dict[str, Operation]:
    """`client_rounds` gives the slice's rounds, or refuses with `slice.not_loaded`."""

    def front() -> tuple[str, SiteFront]:
        """The site, and its features.

        Raises: `front.no_features`.
        """
        learner = client_rounds().learner
        if learner.front is None:
            raise Refusal("front.no_features")
        return learner.site, learner.front

    def committed(_arguments: Nothing, _report: Report) -> Committed:
        """The signed commitment to what was handed in.

        Raises: `front.no_features`.
        """
        site, given = front()
        return commit(identity.manifest_hash, site, given.commitment, identity.signing)

    def held(answer: Held, report: Report) -> Nothing:
        """The aggregator holds the site to these features: look at a sample of them.

        Raises: `admission.not_admitted` or `front.*`.
        """
        site, given = front()
        keys = [instance.signing_key for instance in aggregators.instances(AGGREGATOR)]
        instance, run = identity.signing.public, identity.manifest_hash
        require_held(run, site, given.commitment, instance, answer, keys)
        given.look(answer.begun, report)
        return Nothing()

    return operations(Operation(COMMIT, committed), Operation(HELD, held))
