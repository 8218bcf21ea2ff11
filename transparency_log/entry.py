"""What stands in the log: one canonical JSON value an entry, whose bytes are the leaf.

An entry is appended *before* what it tells of takes effect: if it cannot be written, nothing is released. Raw
things (quotes, collateral, policies, manifests) are not in the entry; it names them by SHA-256 as
`attachments`, and they are kept beside the log, so that any entry can be judged again years later at its own
time.

Entries are read by auditors and by sites: a body holds no row, label, tensor, secret or PPID.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
import rfc8785
from msgspec import Meta, Struct

from contracts.approvals import InSweep
from contracts.canonical import canonical
from contracts.evidence import Claims, EventLog
from contracts.manifest import Identifier
from contracts.policy import Hex32
from contracts.receipts import Hex64, SignedReceipt
from contracts.refusal import Refusal
from contracts.releases import ReleaseApproval, SignedRelease
from contracts.roster import Roster

T = TypeVar("T")

FORMAT: Final = 7
"""Of entries and of what they name. A change of any type that is read here makes it another one; CHANGELOG.md
says which version writes which."""
EARLIER: Final = 6
"""Format 7 adds what may be missing: what was written in this one says the same in it, and what does not use
that is written in this one still, as verifiers of 0.1.0 read nothing else."""
READ: Final = (EARLIER, FORMAT)
MAX_ENTRY_BYTES = 1 << 20

APPRAISAL, APPROVAL, ROSTER, RECEIPT = "appraisal", "approval", "roster", "receipt"
ROSTER_FIXED, RELEASE, KEY_RELEASE, SERVING = "roster.fixed", "release", "key-release", "serving"
RECORDED = frozenset(
    {
        "reference.added", "reference.suspended", "review.opened", "review.proposed", "review.approval",
        "review.rejection", "review.approved", "review.rejected", "manifest", "release-statement", "message",
    }
)  # fmt: skip
"""Kinds that record what people decided at the coordinator, or what it showed to sites. No run rests on them:
its manifest names what it accepts, and each approval carries the manifest."""


class LeafEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """`version` is one of READ, `kind` a dotted name, `at` Unix seconds at the log, `attachments` SHA-256 of
    raw things kept beside it."""

    version: Literal[6, 7]
    kind: Annotated[str, Meta(pattern=r"^[a-z]+([.-][a-z]+)*\Z", max_length=60)]
    at: Annotated[int, Meta(ge=0, lt=2**53)]
    body: dict[str, Any]
    attachments: Annotated[tuple[Hex32, ...], Meta(max_length=16)] = ()


class Outline(Struct, frozen=True):
    """What an entry of any format is believed to have: its format, and the attachments that it names."""

    version: Annotated[int, Meta(ge=1, lt=2**31)]
    attachments: tuple[Hex32, ...] = ()


class AppraisalBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A verdict on evidence. `relying_party` asked for it, `subject` is who the evidence came from (a site's
    id, or the program). `manifest` is the run that it was judged for, whatever the claims say, and `policy`
    that manifest's. `quote`, `collateral`, `policy` and `manifest` name attachments; the last three are
    canonical JSON. `appraisal` is the verifier's whole result (attestation/appraisal.py)."""

    relying_party: Annotated[str, Meta(max_length=100)]
    subject: Annotated[str, Meta(max_length=100)]
    claims: Claims
    quote: Hex32
    collateral: Hex32
    policy: Hex32
    manifest: Hex32
    appraisal: dict[str, Any]
    event_log: EventLog | None = None


class ApprovalBody(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A site's approval (contracts/approvals.py) of a manifest (an attachment), alone or in a sweep."""

    manifest: Hex32
    site: Identifier
    confirmed: tuple[Identifier, ...]
    signature: Hex64
    sweep: InSweep | None = None


class RosterBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A countersigned roster, logged before its round is aggregated."""

    roster: Roster
    countersignatures: dict[Identifier, Hex64]


class RosterFixedBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A roster as the sites are asked to countersign it."""

    roster: Roster


class AdmissionBody(Struct, frozen=True, forbid_unknown_fields=True, tag_field="what", tag="admission"):
    """The server enclave is about to seal to the keys of a site's client slice."""

    manifest: Hex32
    run: Identifier
    site: Identifier
    enclave: Annotated[str, Meta(max_length=100)]
    signing_key: Hex32
    measurement: Annotated[str, Meta(pattern=r"^([0-9a-f]{64}|[0-9a-f]{96})\Z")] | None
    program: Literal["client_slice"]


class ParametersBody(Struct, frozen=True, forbid_unknown_fields=True, tag_field="what", tag="parameters"):
    """Sealed parameters are about to be published. `output` is the file's SHA-256, `recipients` the signing
    keys of the client slices that can open it, `sites` whose they are."""

    manifest: Hex32
    run: Identifier
    round: Annotated[int, Meta(ge=1, lt=2**31)]
    output: Hex32
    recipients: Annotated[tuple[Hex32, ...], Meta(max_length=1000)]
    sites: Annotated[tuple[Identifier, ...], Meta(max_length=1000)]
    program: Literal["aggregator"]


class ReleaseBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Tuned parameters have left an enclave: its statement, and the sites' approvals that it counted. Logged
    before anybody gets the file."""

    release: SignedRelease
    release_approvals: dict[Identifier, ReleaseApproval]


class ServingBody(Struct, frozen=True, forbid_unknown_fields=True):
    """An enclave is about to answer questions with the parameters after this receipt: the sites' approvals,
    by the rule `serve-only`. Logged before it starts."""

    manifest: Hex32
    receipt: Hex32
    release_approvals: dict[Identifier, ReleaseApproval]


KeyReleaseBody = AdmissionBody | ParametersBody
Body = (
    AppraisalBody
    | ApprovalBody
    | RosterFixedBody
    | RosterBody
    | SignedReceipt
    | KeyReleaseBody
    | ReleaseBody
    | ServingBody
)
BODIES: Mapping[str, Any] = {
    APPRAISAL: AppraisalBody,
    APPROVAL: ApprovalBody,
    ROSTER_FIXED: RosterFixedBody,
    KEY_RELEASE: KeyReleaseBody,
    ROSTER: RosterBody,
    RECEIPT: SignedReceipt,
    RELEASE: ReleaseBody,
    SERVING: ServingBody,
}


def make_entry(
    kind: str, at: int, body: Any, attachments: tuple[str, ...] = (), version: Literal[6, 7] = EARLIER
) -> LeafEntry:
    """An entry of any kind from a Struct or a JSON value. Kinds that have a body type here must fit it.

    For the typed kinds the attachments follow from the body and are added by themselves.

    Raises: `log.invalid_entry`.
    """
    return leaf_of(draft_entry(kind, at, body, attachments, version))[0]


def draft_entry(
    kind: str, at: int, body: Any, attachments: tuple[str, ...] = (), version: Literal[6, 7] = EARLIER
) -> LeafEntry:
    """As `make_entry`, before it has its canonical form: only the body of a typed kind is checked.

    Raises: `log.invalid_entry`.
    """
    entry = LeafEntry(version, kind, at, msgspec.to_builtins(body), attachments)
    typed = typed_body(entry)
    named = _attachments(typed) if typed is not None else ()
    return msgspec.structs.replace(entry, attachments=tuple(dict.fromkeys((*named, *attachments))))


def leaf_of(draft: LeafEntry) -> tuple[LeafEntry, bytes]:
    """The entry as every reader of its leaf will see it, and the leaf, which is made once.

    Raises: `log.invalid_entry`, also for a number that a reader would refuse: 1e16 is written as an integer
    that I-JSON does not have (RFC 7493).
    """
    data = encode_entry(draft)
    entry = _decoded(data, LeafEntry)
    if not _exact(entry.body):
        raise Refusal("log.invalid_entry", fault="a number is beyond 2^53 - 1")
    return entry, data


def _exact(value: Any) -> bool:
    """Whether no integer in it is beyond what every reader of JSON holds exactly."""
    if isinstance(value, dict | list):
        return all(map(_exact, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, int) or abs(value) < 2**53


def encode_entry(entry: LeafEntry) -> bytes:
    """The leaf: canonical JSON.

    Raises: `log.invalid_entry`.
    """
    try:
        data = canonical(entry)
    except (rfc8785.CanonicalizationError, msgspec.MsgspecError, RecursionError) as error:
        raise Refusal("log.invalid_entry", fault=str(error)[:200]) from error
    if len(data) > MAX_ENTRY_BYTES:
        raise Refusal("log.invalid_entry", fault=f"it has more than {MAX_ENTRY_BYTES} bytes")
    return data


def parse_entry(data: bytes) -> LeafEntry:
    """Read a leaf strictly: it must be the canonical form of what it says.

    Raises: `log.invalid_entry`, or `log.other_format` where it says that it has a format that is not in READ.
    """
    if len(data) > MAX_ENTRY_BYTES:
        raise Refusal("log.invalid_entry", fault=f"it has more than {MAX_ENTRY_BYTES} bytes")
    if (found := outline(data).version) not in READ:
        raise Refusal("log.other_format", found=found, known=FORMAT)
    entry = _decoded(data, LeafEntry)
    if encode_entry(entry) != data:
        raise Refusal("log.invalid_entry", fault="it is not in canonical form")
    return entry


def outline(data: bytes) -> Outline:
    """Read of a leaf what all formats have.

    Raises: `log.invalid_entry`.
    """
    return _decoded(data, Outline)


def typed_body(entry: LeafEntry) -> Body | None:
    """The body of a kind that says something of a run; None for other kinds.

    Raises: `log.invalid_entry` where it does not fit its kind.
    """
    body_type = BODIES.get(entry.kind)
    if body_type is None:
        return None
    try:
        body: Body = msgspec.convert(entry.body, body_type)
    except (msgspec.ValidationError, RecursionError) as error:
        raise Refusal("log.invalid_entry", fault=str(error)[:200]) from error
    return body


def _decoded(data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal("log.invalid_entry", fault=str(error)[:200]) from error


def _attachments(body: Body) -> tuple[str, ...]:
    match body:
        case AppraisalBody():
            return (body.quote, body.collateral, body.policy, body.manifest)
        case ApprovalBody() | ServingBody():
            return (body.manifest,)
        case RosterBody():
            return (body.roster.manifest,)
        case SignedReceipt():
            return (body.receipt.manifest,)
        case ReleaseBody():
            return (body.release.released.manifest,)
        case RosterFixedBody() | AdmissionBody() | ParametersBody():
            # The run's manifest came with the approvals, which stand before them.
            return ()
