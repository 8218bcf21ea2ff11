"""What the host of an enclave program may ask of it, and what the program answers: one struct each, which
both sides read strictly. Neither side believes the other. These are asked of every program; what else there
is stands beside: `aggregator_calls`, `client_slice_calls`, `masked_calls`, `split_server_calls` and so on.
"""

from __future__ import annotations

from typing import Annotated, Generic, NamedTuple, TypeVar

from msgspec import Meta, Struct

from contracts.approvals import Approval
from contracts.evidence import Claims, EventLog
from contracts.policy import Hex32

PathText = Annotated[str, Meta(min_length=1, max_length=2048)]
RoundNumber = Annotated[int, Meta(ge=1, lt=2**31)]
A = TypeVar("A", bound=Struct)
R = TypeVar("R", bound=Struct)


class Call(NamedTuple, Generic[A, R]):
    """An operation: its name, the struct of its arguments, and that of its result."""

    name: str
    arguments: type[A]
    result: type[R]


class Nothing(Struct, forbid_unknown_fields=True, frozen=True):
    """For operations that take no arguments, or have nothing to tell."""


class BindArguments(Struct, forbid_unknown_fields=True, frozen=True):
    """The run manifest's text, and each site's approval of its hash."""

    manifest: str
    approvals: dict[str, Approval]


class Challenge(Struct, forbid_unknown_fields=True, frozen=True):
    """A relying party's own fresh nonce: what evidence must answer."""

    nonce: Hex32


class ShownEvidence(Struct, forbid_unknown_fields=True, frozen=True):
    """Evidence without its collateral, which the host adds: that needs no protection."""

    quote: bytes
    claims: Claims
    event_log: EventLog | None


PING = Call("ping", Nothing, Nothing)
BIND = Call("bind", BindArguments, Nothing)
EVIDENCE = Call("evidence", Challenge, ShownEvidence)
STOP = Call("stop", Nothing, Nothing)
