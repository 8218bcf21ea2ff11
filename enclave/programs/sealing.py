"""What a client slice seals for the aggregator: its contribution to a round. Runs inside the client slice."""

from __future__ import annotations

from itertools import chain

import msgspec
from msgspec import structs

from contracts.canonical import canonical
from contracts.round_kind import kind_of
from contracts.sealed.container import FileRef
from contracts.sealed.stream import Binding, seal
from enclave.programs.contributions import Enclosed
from enclave.programs.identity import Identity
from enclave.programs.mailbox import Mailbox
from enclave.programs.peer import AGGREGATOR, Peer
from enclave.training.tensors import State, as_file

NUMBER_BYTES = 24
"""No number of RFC 8785 has more digits and signs, as in -1.2345678901234567e-308."""


def seal_contribution(
    identity: Identity,
    mailbox: Mailbox,
    *,
    site: str,
    round: int,
    receiver: Peer,
    enclosed: Enclosed,
    state: State,
) -> FileRef:
    """Inside the client slice: seal for the aggregator and put the file out."""
    binding = Binding(identity.manifest_hash, round, kind_of(identity.manifest, round), site)
    plain = as_file(state, msgspec.to_builtins(padded(enclosed)))
    return mailbox.outgoing(
        lambda file: seal(
            plain,
            file,
            binding=binding,
            recipients={AGGREGATOR: receiver.hpke_key},
            signer=identity.signing,
        )
    )


def padded(enclosed: Enclosed) -> Enclosed:
    """With as much padding as its numbers lack digits: the size of a sealed file is seen by every host on
    its way, and shall not tell how long a loss or a count is."""
    scores = enclosed.scores
    fixed = (scores.rows, scores.predictions, scores.correct, scores.exact, scores.ended)
    counts = (*fixed, *chain.from_iterable(scores.confusion + scores.bins))
    lacking = sum(NUMBER_BYTES - len(canonical(number)) for number in (scores.loss_sum, *counts))
    return structs.replace(enclosed, padding=" " * lacking)
