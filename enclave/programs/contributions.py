"""Contributions: what a client slice seals for the aggregator, which opens and checks it in opening.py.

The plaintext is safetensors: the tuned state (empty where nothing is trained), and `Enclosed` as the
metadata beside it. It exists only in the memory of the two enclaves.
"""

from __future__ import annotations

from io import BytesIO
from itertools import chain
from typing import Annotated

import msgspec
from msgspec import Meta, Struct, structs

from contracts.canonical import canonical
from contracts.manifest import Manifest
from contracts.policy import Hex32
from contracts.receipts import NO_RECEIPT
from contracts.round_kind import kind_of
from contracts.sealed.container import FileRef
from contracts.sealed.stream import Binding, seal
from enclave.programs.identity import Identity
from enclave.programs.mailbox import Mailbox
from enclave.programs.peer import AGGREGATOR, Peer
from enclave.training.metrics import Scores
from enclave.training.tensors import State, to_bytes

NUMBER_BYTES = 24
"""No number of RFC 8785 has more digits and signs, as in -1.2345678901234567e-308."""
MAX_PADDING = 1 << 24
START = "start/"
"""Before the name of a tensor: not what a site tuned, but what it began with."""


class Enclosed(Struct, forbid_unknown_fields=True, frozen=True):
    """Beside the tensors: the hash of the receipt that the site continued, the number of rows that it trained
    on, and the scores of the incoming parameters: on its validation rows, in the test round on its test
    rows."""

    previous: Hex32
    samples: Annotated[int, Meta(ge=0, lt=2**40)]
    scores: Scores
    padding: Annotated[str, Meta(max_length=MAX_PADDING)] = ""

    def padded(self) -> Enclosed:
        """With as much padding as its numbers lack digits: the size of a sealed file is seen by every host on
        its way, and shall not tell how long a loss or a count is."""
        scores = self.scores
        told = (scores.rows, scores.predictions, scores.correct, scores.exact, scores.ended)
        counts = (*told, *chain.from_iterable(scores.confusion + scores.bins))
        lacking = sum(NUMBER_BYTES - len(canonical(number)) for number in (scores.loss_sum, *counts))
        return structs.replace(self, padding=" " * lacking)


def shows_start(manifest: Manifest, previous: str) -> bool:
    """Whether an update that continues this receipt carries what it began with: the aggregator clips changes,
    or takes steps of its own, and draws no initial parameters itself."""
    rules = manifest.aggregation
    return (rules.clip is not None or rules.optimizer is not None) and previous == NO_RECEIPT


def with_start(state: State, start: State) -> State:
    """Both in one, as a site sends them where a clip needs to know from where its change is counted, and the
    aggregator has no parameters yet."""
    return state | {START + name: tensor for name, tensor in start.items()}


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
    plain = BytesIO(to_bytes(state, msgspec.to_builtins(enclosed.padded())))
    return mailbox.outgoing(
        lambda file: seal(
            plain,
            file,
            binding=binding,
            recipients={AGGREGATOR: receiver.hpke_key},
            signer=identity.signing,
        )
    )
