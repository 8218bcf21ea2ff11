"""A release of tuned parameters: what a site signs for it, and what the enclave says that it has let out.

A site's approval key signs a *release approval*: these parameters (those after this receipt), by this
rule, where they are sealed to sites to this key of mine, and whose keys that site has confirmed by now. The
enclave counts the approvals itself against the manifest. Its statement goes into the log beside them, so
that an auditor counts them again. docs/protocol.md has both. That an enclave may answer questions with the
parameters is approved in the same way, by the rule `serve-only`; such an approval lets no parameter out,
whatever the manifest allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct

from contracts.approvals import Approval
from contracts.counting import Confirming, counted
from contracts.manifest import Identifier, Manifest
from contracts.policy import Hex32
from contracts.receipts import Hex64
from contracts.refusal import Refusal
from contracts.sealed.hpke import PUBLIC_BYTES
from contracts.signing import SigningKey

RELEASE_APPROVAL_DOMAIN = "fedslice/release/v1"
RELEASED_DOMAIN = "fedslice/released/v1"
SERVE, SEALED, EXPORT = "serve-only", "sealed-to-sites", "export"
KIND = "release"
"""The kind of a sealed stream that holds a released package."""

ReleaseRule = Literal["sealed-to-sites", "export"]
ApprovedRule = Literal["serve-only", "sealed-to-sites", "export"]
Number = Annotated[int, Meta(ge=1, le=1000)]
HpkePublic = Annotated[str, Meta(pattern=f"^[0-9a-f]{{{2 * PUBLIC_BYTES}}}\\Z")]


class ReleasePayload(Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    """What a site's approval key signs under ORDER_DOMAIN. `receipt` is the hash of the run's last receipt;
    `hpke_key` is where the site wants its copy sealed to, null unless it gets one. `confirmed` is as in an
    `Approval`, of the day of the approval. `number`: of a sweep that this site has approved by one signature,
    the how manieth result it lets out (absent otherwise)."""

    manifest: Hex32
    receipt: Hex32
    rule: ApprovedRule
    site: Identifier
    hpke_key: HpkePublic | None
    confirmed: tuple[Identifier, ...]
    number: Number | None = None


class ReleaseApproval(Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    """A site's part of its approval, and its signature (hex): all else is the same for all sites."""

    hpke_key: HpkePublic | None
    confirmed: tuple[Identifier, ...]
    signature: Hex64
    number: Number | None = None


class Released(Struct, forbid_unknown_fields=True, frozen=True):
    """What an enclave has let out. `output` is the SHA-256 of the file that left it: a sealed stream, or,
    by `export`, the package itself. `package` is that of the package in both cases. `approved_by` are
    the sites whose approvals it counted, `recipients` those that can open the stream."""

    version: Literal[1]
    manifest: Hex32
    run: Identifier
    receipt: Hex32
    rule: ReleaseRule
    output: Hex32
    bytes: Annotated[int, Meta(ge=1)]
    package: Hex32
    approved_by: tuple[Identifier, ...]
    recipients: tuple[Identifier, ...]
    program: Literal["aggregator", "split_server"]
    measurement: str
    development: bool
    issued: Annotated[int, Meta(ge=0)]


class SignedRelease(Struct, forbid_unknown_fields=True, frozen=True):
    """The statement with the attested Ed25519 key that signed it, and the signature, in hex."""

    released: Released
    signing_key: Hex32
    signature: Hex64


def approve_release(
    manifest: Manifest,
    receipt: str,
    site: str,
    key: SigningKey,
    confirmed: Sequence[str],
    hpke_key: str | None = None,
    rule: str | None = None,
    number: int | None = None,
) -> ReleaseApproval:
    """The site's approval by this rule (None: the manifest's), by its approval key; `number` as in
    `ReleasePayload`. Runs at the site.

    Raises: as `allowed`.
    """
    rule = allowed(manifest, rule)
    own = hpke_key if rule == SEALED else None
    payload = ReleasePayload(manifest.hash, receipt, rule, site, own, tuple(confirmed), number)
    return ReleaseApproval(own, payload.confirmed, key.sign(RELEASE_APPROVAL_DOMAIN, payload), number)


def rule_of(manifest: Manifest) -> ReleaseRule:
    """By which rule parameters may leave the enclave.

    Raises: `release.not_allowed`.
    """
    rule = manifest.release.rule
    if rule == "sealed-to-sites" or rule == "export":
        return rule
    raise Refusal("release.not_allowed", rule=rule)


def allowed(manifest: Manifest, rule: str | None) -> ApprovedRule:
    """The rule, if the manifest lets an approval say it; None is the manifest's own.

    Raises: `release.not_allowed` or `serving.not_allowed`.
    """
    if rule == SERVE and manifest.release.rule == "nothing":
        raise Refusal("serving.not_allowed", rule=manifest.release.rule)
    if rule == SERVE:
        return "serve-only"
    if rule not in (None, manifest.release.rule):
        raise Refusal("release.not_allowed", rule=manifest.release.rule)
    return rule_of(manifest)


def verify_release_approval(
    manifest: Manifest, receipt: str, site: str, said: ReleaseApproval, rule: str | None = None
) -> None:
    """One site's approval by this rule (None: the manifest's).

    Raises: as `allowed`, or `manifest.unknown_site`, `approval.online_key` or `release.bad_approval`.
    """
    rule = allowed(manifest, rule)
    member = manifest.site(site)
    if (said.hpke_key is not None) != (rule == SEALED):
        raise Refusal("release.bad_approval", site=site)
    payload = ReleasePayload(manifest.hash, receipt, rule, site, said.hpke_key, said.confirmed, said.number)
    member.verify_decision(RELEASE_APPROVAL_DOMAIN, payload, said.signature, "release.bad_approval")


def require_approved(
    manifest: Manifest,
    receipt: str,
    by_site: Mapping[str, ReleaseApproval],
    approvals: Mapping[str, Approval],
    rule: str | None = None,
) -> None:
    """All of them, and that enough count: by every member's approval, and by every approval.

    Raises: as `verify_release_approval` and `require_number`, or `release.too_few`.
    """
    for site, approval in by_site.items():
        verify_release_approval(manifest, receipt, site, approval, rule)
        require_number(site, approval.number, approvals.get(site), rule)
    found, needed = counted_approvals(by_site, approvals), manifest.release.approvals
    if found < needed:
        raise Refusal("release.too_few", found=found, needed=needed)


def require_number(site: str, number: int | None, approval: Approval | None, rule: str | None) -> None:
    """Where a site has approved the run in a sweep, its approval says the how manieth result it is; no more
    than its approval states. An approval to serve lets none out.

    Raises: `release.beyond_sweep`.
    """
    place = None if approval is None or rule == SERVE else approval.sweep
    allowed_numbers = (None,) if place is None else range(1, place.signed.releases + 1)
    if number not in allowed_numbers:
        raise Refusal("release.beyond_sweep", site=site, releases=place.signed.releases if place else 0)


def counted_approvals(by_site: Mapping[str, Confirming], approvals: Mapping[str, Confirming]) -> int:
    """How many of the approvals count (contracts/counting.py). Who approves may know better by now who is
    real."""
    return min(counted(approvals, by_site), counted(by_site, by_site))


def sign_release(released: Released, key: SigningKey) -> SignedRelease:
    """Inside the enclave."""
    return SignedRelease(released, key.public, key.sign(RELEASED_DOMAIN, released))
