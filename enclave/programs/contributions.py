"""Contributions: what a client slice seals (sealing.py) for the aggregator, which opens and checks it in
opening.py.

The plaintext is safetensors: the tuned state (empty where nothing is trained), and `Enclosed` as the
metadata beside it. It exists only in the memory of the two enclaves.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from contracts.manifest import Manifest
from contracts.policy import Hex32
from contracts.receipts import NO_RECEIPT
from enclave.training.metrics import Scores
from enclave.training.tensors import State

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


def shows_start(manifest: Manifest, previous: str) -> bool:
    """Whether an update that continues this receipt carries what it began with: the aggregator clips changes,
    or takes steps of its own, and draws no initial parameters itself."""
    rules = manifest.aggregation
    return (rules.clip is not None or rules.optimizer is not None) and previous == NO_RECEIPT


def with_start(state: State, start: State) -> State:
    """Both in one, as a site sends them where a clip needs to know from where its change is counted, and the
    aggregator has no parameters yet."""
    return state | {START + name: tensor for name, tensor in start.items()}
