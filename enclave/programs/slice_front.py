"""What a client slice does behind a public front: it commits to the features that its host has handed in, and
hears whether its site is held to them. Loaded once a manifest is bound that has one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from msgspec import Meta, Struct

from contracts.commitment import Committed, Held, commit, require_held
from contracts.refusal import Refusal
from enclave.programs.admission import Admission
from enclave.programs.client_rounds import ClientRounds
from enclave.programs.identity import Identity
from enclave.programs.peer import AGGREGATOR
from enclave.programs.program import Operation, Report


class HeldArguments(Struct, forbid_unknown_fields=True, frozen=True):
    """What the aggregator has answered to the features that this instance has committed to: see
    `contracts.commitment.Held`."""

    begun: Annotated[int, Meta(ge=1, lt=2**31)]
    signature: Annotated[str, Meta(pattern=r"^[0-9a-f]{128}\Z")]


def committed(identity: Identity, client_rounds: ClientRounds) -> Committed:
    """The signed commitment to what was handed in.

    Raises: `front.no_features`.
    """
    learner = client_rounds.learner
    if learner.front is None:
        raise Refusal("front.no_features")
    return commit(identity.manifest_hash, learner.site, learner.front.commitment, identity.signing)


def operations(
    identity: Identity, aggregators: Admission, client_rounds: Callable[[], ClientRounds]
) -> dict[str, Operation]:
    """`client_rounds` gives the slice's rounds, or refuses with `slice.not_loaded`."""

    def held(arguments: HeldArguments, report: Report) -> dict[str, Any]:
        """The aggregator holds the site to these features: look at a sample of them.

        Raises: `admission.not_admitted` or `front.*`.
        """
        learner = client_rounds().learner
        if learner.front is None:
            raise Refusal("front.no_features")
        keys = [instance.signing_key for instance in aggregators.instances(AGGREGATOR)]
        instance, run = identity.signing.public, identity.manifest_hash
        answer = Held(arguments.begun, arguments.signature)
        require_held(run, learner.site, learner.front.commitment, instance, answer, keys)
        learner.front.look(arguments.begun, report)
        return {}

    return {"held": Operation(HeldArguments, held)}
