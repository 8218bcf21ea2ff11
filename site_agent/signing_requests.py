"""What a person signs on another machine than the agent's: a file out, a file back.

The request holds all from which the summary is written, and the agent's signature over it: on its way nobody
changes it. The machine that signs needs no network and believes the agent as little as it can: it writes the
summary from the manifest itself, measures its own packages, takes the release key's fingerprint from the
person, and keeps its own book of confirmed members. The agent's word are: the dataset's name and card, what
its ledger says, that the manifest stands in the log, and the state of the run whose release is asked for.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from attestation.measurement import measure
from attestation.trust_domain import development_reference
from contracts.agents_api.studies import SweepItem
from contracts.approvals import Approval, Sweep, verify_approval
from contracts.manifest import Identifier, Manifest, parse
from contracts.policy import Hex32
from contracts.receipt_chain import parse_receipt
from contracts.receipts import Hex64, SignedReceipt
from contracts.refusal import Refusal
from contracts.release_statement import SignedReleaseStatement, judge_statement
from contracts.releases import ApprovedRule, ReleaseApproval
from contracts.sealed.hpke import PUBLIC_BYTES
from contracts.signing import verify
from site_agent.approval_key import read_key_file
from site_agent.approvals import Approved, approved_manifest, last_approved
from site_agent.datasets.catalogue import Dataset
from site_agent.files import write_private
from site_agent.formatting import printable
from site_agent.knowledge import kept_statement
from site_agent.ledger.accounting import Outlook
from site_agent.state import State
from site_agent.weaknesses import Known, Weakness

DOMAIN = "fedslice/signing-request/v1"
ACCEPTED = "fedslice/accepted-weaknesses/v1"
MAX_BYTES = 4 << 20


class AskedOutcome(Struct, frozen=True, forbid_unknown_fields=True):
    """That a run's parameters are to be released, or served: those after this receipt, by this rule, sealed
    to `hpke_key`. `number`: which result of its sweep it is."""

    receipt: SignedReceipt
    rule: ApprovedRule
    hpke_key: Annotated[str, Meta(pattern=f"^[0-9a-f]{{{2 * PUBLIC_BYTES}}}\\Z")] | None
    found: int
    needed: int
    number: int | None = None


class AskedSignature(Struct, frozen=True, forbid_unknown_fields=True):
    """`manifest` is its canonical text. `last` was approved here before; for a release it is the run's.
    `outlook` is what the ledger says of a manifest, None for a release. Of a sweep `manifest` is one point,
    `others` are the texts of the others, and `stated` is what its signature is to state."""

    version: Literal[1]
    site: Identifier
    manifest: str
    dataset: Dataset
    root_sha256: Hex32 | None
    statement: SignedReleaseStatement | None
    last: Approved | None
    outlook: Outlook | None = None
    release: AskedOutcome | None = None
    sweep: SweepItem | None = None
    others: tuple[str, ...] = ()
    stated: Sweep | None = None


class SigningRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """`signature` is the agent's, over `asked` under DOMAIN."""

    asked: AskedSignature
    signature: Hex64


class SignedAnswer(Struct, frozen=True, forbid_unknown_fields=True):
    """What comes back, of a sweep under its root: for an approval itself and the weaknesses that were
    accepted, for a release the order. `acceptance` is the approval key's signature over `accepted_payload`
    under ACCEPTED: nobody accepts more on the way back. `stated` is what was signed of a sweep."""

    version: Literal[1]
    manifest: Hex32
    approval: Approval | None = None
    accepted: tuple[str, ...] = ()
    acceptance: Hex64 | None = None
    fingerprint: Hex32 | None = None
    release_approval: ReleaseApproval | None = None
    stated: Sweep | None = None


def accepted_payload(manifest_hash: str, site: str, accepted: Sequence[str]) -> dict[str, object]:
    """What the approval key signs of the weaknesses that a person accepted in a manifest."""
    return {"accepted": list(accepted), "manifest": manifest_hash, "site": site}


def asked_of(
    state: State, text: str, manifest: Manifest, dataset: Dataset, known: Known, found: Outlook
) -> AskedSignature:
    """The request for a manifest, with what was approved here before by the present key."""
    last = last_approved(state, manifest.hash)
    if last is not None:
        before = approved_manifest(state, last.hash).site(state.config.site)
        last = last if before.approval_key == state.config.approval_key else None
    root, statement = known.root_sha256, kept_statement(state)
    return AskedSignature(1, state.config.site, text, dataset, root, statement, last, found)


def export(state: State, asked: AskedSignature, file: Path) -> None:
    """Write the request, signed by the agent's key."""
    write_private(file, msgspec.json.encode(SigningRequest(asked, state.key.sign(DOMAIN, asked))))


def read_request(file: Path, key: Path) -> tuple[AskedSignature, Manifest]:
    """A request that is fit to be shown: unchanged since this site's agent wrote it, for the approval key in
    the file `key`.

    Raises: `signing_request.malformed`, `signing_request.altered`, `approval_key.other`, a `manifest.`
    code, or as `read_key_file`.
    """
    request = _read(file, SigningRequest)
    asked, manifest = request.asked, parse(request.asked.manifest.encode())
    member = manifest.site(asked.site)
    if member.approval_key != read_key_file(key).public:
        raise Refusal("approval_key.other", file=str(key))
    try:
        verify(member.public_key, DOMAIN, asked, request.signature)
        if asked.last is not None:
            _require_ours(asked.last, asked.site, member.approval_key)
        if asked.release is not None:
            parse_receipt(msgspec.to_builtins(asked.release.receipt))
    except Refusal as refusal:
        raise Refusal("signing_request.altered", file=str(file)) from refusal
    card = asked.dataset.card
    of_dataset = (asked.dataset.id, asked.dataset.digest, card.rows, card.kind)
    run_is_ours = asked.release is None or (asked.last is not None and asked.last.hash == manifest.hash)
    is_whole = (asked.outlook is None) == (asked.release is not None)
    is_whole &= (asked.sweep is None) == (asked.stated is None) == (not asked.others)
    ours = (member.dataset.id, member.dataset.digest, member.dataset.rows, member.dataset.kind)
    if of_dataset != ours or not run_is_ours or not is_whole:
        raise Refusal("signing_request.altered", file=str(file))
    return asked, manifest


def read_signed(file: Path) -> SignedAnswer:
    """Raises: `signing_request.malformed`."""
    return _read(file, SignedAnswer)


def known_at_desk(asked: AskedSignature, manifest: Manifest, release_key: str | None) -> Known:
    """What the machine that signs knows of the code. Its own packages are measured here; `release_key` is
    the fingerprint that the person typed.

    Raises: a `release_statement.` code.
    """
    development = manifest.policy.root == "development"
    programs = sorted({reference.program for reference in manifest.policy.references})
    statement = None
    if asked.statement is not None or not development:
        if release_key is None:
            raise Refusal("release_statement.key_not_pinned")
        if asked.statement is None:
            raise Refusal("release_statement.missing")
        statement = judge_statement(asked.statement, key=release_key, now=int(time.time()), newest=None)
    previous = None if asked.last is None else parse(asked.last.manifest.encode())
    return Known(
        root_sha256=asked.root_sha256 if development else None,
        own={program: measure(program) for program in programs} if development else {},
        trust_domains={program: development_reference(program) for program in programs},
        statement=statement,
        previous=previous,
    )


def outlook_at_desk(asked: AskedSignature) -> Outlook:
    """What the agent's ledger says, made harmless to a terminal."""
    found = asked.outlook
    assert found is not None
    weak = [Weakness(printable(one.name, 60), printable(one.text, 1000)) for one in found.weak]
    return msgspec.structs.replace(found, weak=weak)


def _require_ours(approved: Approved, site: str, approval_key: str) -> None:
    """It was approved with the key that is to sign now."""
    before = parse(approved.manifest.encode())
    if before.site(site).approval_key != approval_key or before.hash != approved.hash:
        raise Refusal("approval.key_mismatch")
    verify_approval(before, site, approved.given, "sealing.bad_signature")


Content = TypeVar("Content")


def _read(file: Path, kind: type[Content]) -> Content:
    with file.open("rb") as opened:
        data = opened.read(MAX_BYTES + 1)
    try:
        if len(data) > MAX_BYTES:
            raise msgspec.DecodeError("too large")
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal("signing_request.malformed", file=str(file), fault=str(error)[:200]) from error
