"""What a coordinator may ask of a split server whose run is over (see program_calls.py): sessions, relayed
for the sites, of which the host is told counts only."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from contracts.manifest import Identifier
from contracts.policy import Count, Hex32
from contracts.program_calls import Call, Nothing
from contracts.releases import ReleaseApproval
from contracts.sealed.session import Base64, Opening

MessageNumber = Annotated[int, Meta(ge=0, lt=2**31)]


class ShareArguments(Struct, forbid_unknown_fields=True, frozen=True):
    """The last receipt that a site has seen, and its share of the state's key if it holds one, sealed to this
    enclave (`contracts.sealed.handback`)."""

    site: str
    sealed: Base64


class ServeArguments(Struct, forbid_unknown_fields=True, frozen=True):
    """The receipt whose parameters are to answer, and the sites' approvals by the rule `serve-only`."""

    receipt: Hex32
    release_approvals: dict[Identifier, ReleaseApproval]


class OpenArguments(Struct, forbid_unknown_fields=True, frozen=True):
    """A site's opening of a session."""

    opening: Opening


class SessionOpened(Struct, forbid_unknown_fields=True, frozen=True):
    """The session's name, and the enclave's proof to the site (base64)."""

    session: Hex32
    proof: Base64


class StepArguments(Struct, forbid_unknown_fields=True, frozen=True):
    """A message of a session; `more` says that its question goes on in the next one."""

    session: Hex32
    number: MessageNumber
    sealed: Base64
    more: bool = False


class Stepped(Struct, forbid_unknown_fields=True, frozen=True):
    """The last message of a question is answered; the others are taken note of (`sealed` is null)."""

    number: MessageNumber
    sealed: Base64 | None
    texts: Count
    tokens: Count


class CloseArguments(Struct, forbid_unknown_fields=True, frozen=True):
    """The session that is over."""

    session: Hex32


class RevokeArguments(Struct, forbid_unknown_fields=True, frozen=True):
    """The sites that are to have no session: theirs end, and they open no more until they are not named."""

    sites: Annotated[tuple[str, ...], Meta(max_length=1000)]


class SiteMeter(Struct, forbid_unknown_fields=True, frozen=True):
    """Counts of a site."""

    sessions: Count
    questions: Count
    texts: Count
    tokens: Count
    bytes: Count


class Meters(Struct, forbid_unknown_fields=True, frozen=True):
    """How many sessions are open, and counts by site."""

    open: Count
    sites: dict[str, SiteMeter]


SHARE = Call("share", ShareArguments, Nothing)
SERVE = Call("serve", ServeArguments, Nothing)
OPEN = Call("open", OpenArguments, SessionOpened)
STEP = Call("step", StepArguments, Stepped)
CLOSE = Call("close", CloseArguments, Nothing)
REVOKE = Call("revoke", RevokeArguments, Nothing)
METERS = Call("meters", Nothing, Meters)
