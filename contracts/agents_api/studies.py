"""What waits for the site's approval, and the signature that is the approval; what is said in its thread."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from contracts.agents_api.endpoint import Endpoint
from contracts.approvals import InSweep
from contracts.manifest import Identifier
from contracts.policy import Hex32
from contracts.program_calls import Nothing
from contracts.receipts import Hex64

Decision = Literal["message", "changes", "decline", "reconsider"]
About = Literal["study", "release", "serving"]


class SweepItem(Struct, frozen=True):
    """The sweep that a manifest is a point of, unchecked: `points` in all, and of how many results the
    release is to be allowed at most."""

    id: str
    name: str
    points: int
    releases: int


class ApprovalItem(Struct, frozen=True):
    """`manifest` is the canonical JSON as text; check its SHA-256 yourself. `browser` says whether the site
    admin said yes in the browser, which counts for nothing here, `declined` whether the hospital has declined
    it and not changed its mind."""

    study: str
    name: str
    manifest_hash: str
    manifest: str
    state: Literal["waiting", "signed"]
    browser: bool = False
    declined: bool = False
    sweep: SweepItem | None = None


class SignatureBody(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The Ed25519 signature (hex) by the site's approval key over `approval_payload`, which names the members
    whose keys the site has compared; with `sweep`, over `sweep_payload`."""

    manifest_hash: Hex32
    confirmed: Annotated[tuple[Identifier, ...], Meta(max_length=1000)]
    signature: Hex64
    sweep: InSweep | None = None


class MessageItem(Struct, frozen=True):
    """A message. SHA-256(salt ‖ text) is `digest`, which stands in the log; text and salt are empty once they
    were erased. Of `speaker`, `kind` and `about` a later version may know more."""

    number: int
    at: str
    speaker: str
    kind: str
    about: str
    by: str
    text: str
    salt: str
    digest: str


class ThreadItem(Struct, frozen=True):
    """What was said between the hospital and a study's lead. `manifest_hash` is what stands to be decided,
    empty while the study is a draft; `declined` says whether the hospital has declined it."""

    study: str
    name: str
    manifest_hash: str
    state: str
    declined: bool
    messages: list[MessageItem]


class MessageBody(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the hospital says; a decision names the manifest that it is about."""

    study: Identifier
    kind: Decision
    about: About
    text: Annotated[str, Meta(max_length=20_000)]
    manifest_hash: Hex32 | None = None


APPROVALS = Endpoint("GET", "approvals", Nothing, list[ApprovalItem])
APPROVE = Endpoint("POST", "approvals", SignatureBody, ApprovalItem)
THREADS = Endpoint("GET", "threads", Nothing, list[ThreadItem])
SAY = Endpoint("POST", "threads", MessageBody, ThreadItem)
