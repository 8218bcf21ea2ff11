"""What an agent says about itself: it enrols, it is alive, it moves; and a site's approval key."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from contracts.agents_api.endpoint import Endpoint
from contracts.policy import Hex32
from contracts.program_calls import Nothing

Short = Annotated[str, Meta(min_length=1, max_length=64)]
Token = Annotated[str, Meta(min_length=1, max_length=200)]


class EnrolBody(Struct, frozen=True, forbid_unknown_fields=True):
    """`public_key` is the agent's Ed25519 key in hex, `approval_key` the one that needs a person unless it is
    a `development_key`; `platform_key_pem` the platform's PKCS#10 request."""

    token: Token
    public_key: Hex32
    approval_key: Hex32
    agent_version: Short
    runtime: Short
    development_key: bool = False
    platform_key_pem: Annotated[str, Meta(max_length=8192)] | None = None


class EnrolAnswer(Struct, frozen=True):
    """`pck_chain` (PEM) certifies a development platform; hardware has its own."""

    site: str
    name: str
    coordinator: str
    pck_chain: str | None


class ReplaceBody(Struct, frozen=True, forbid_unknown_fields=True):
    """`approval_key` is the new Ed25519 key in hex."""

    token: Token
    approval_key: Hex32
    development_key: bool = False


class ReplaceAnswer(Struct, frozen=True):
    """The site's approval key now."""

    approval_key: str


class CheckResult(Struct, frozen=True, forbid_unknown_fields=True):
    """One connection check of the agent, in words for the site admin. `letter` is a text that they can send
    to whoever looks after the network."""

    name: Short
    outcome: Literal["pass", "warn", "fail"]
    found: Annotated[str, Meta(max_length=500)] = ""
    hint: Annotated[str, Meta(max_length=1000)] = ""
    letter: Annotated[str, Meta(max_length=2000)] = ""


class HeartbeatBody(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An empty list of checks says that none were made since the last heartbeat. `leaving` says that the
    agent ends."""

    agent_version: Short
    runtime: Short
    checks: Annotated[list[CheckResult], Meta(max_length=64)] = []
    leaving: bool = False


class HeartbeatAnswer(Struct, frozen=True):
    """`server_time` is in Unix seconds, so that the agent can see how far its clock is off. `check` asks for
    new connection checks with the next heartbeat."""

    server_time: int
    state: str
    check: bool = False


class MachineAnswer(Struct, frozen=True):
    """Which machine is the site's: its name and address, since when, and when it was last heard of (Unix
    seconds; null after it has ended in order). `here` says that it is the one that asks. All is null before
    any was heard of."""

    here: bool
    machine: str | None
    address: str | None
    since: int | None
    heard: int | None


ENROL = Endpoint("POST", "enrol", EnrolBody, EnrolAnswer)
APPROVAL_KEY = Endpoint("POST", "approval-key", ReplaceBody, ReplaceAnswer)
HEARTBEAT = Endpoint("POST", "heartbeat", HeartbeatBody, HeartbeatAnswer)
MACHINE = Endpoint("GET", "machine", Nothing, MachineAnswer)
MOVE = Endpoint("POST", "machine", Nothing, MachineAnswer)
