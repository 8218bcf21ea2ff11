"""A hospital's approval of a run, and whom of the run's members it knows to be real.

The coordinator invites the members, so it could make hospitals up and hold their keys. An approval therefore
names, signed, whose keys that hospital has compared by another channel; contracts/counting.py counts by it.
docs/decisions/0029 has the reasons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from contracts.manifest import APPROVAL_DOMAIN, Identifier, Manifest
from contracts.receipts import Hex64


class Approval(Struct, frozen=True, forbid_unknown_fields=True):
    """`confirmed` are the ids of the members whose keys this hospital has compared, with or without its own;
    `signature` is its approval key's (hex) over `approval_payload`."""

    confirmed: tuple[Identifier, ...]
    signature: Hex64


def approval_payload(manifest_hash: str, site_id: str, confirmed: Sequence[str]) -> dict[str, object]:
    """What a site's approval key signs, under APPROVAL_DOMAIN, to approve a run."""
    return {"confirmed": list(confirmed), "decision": "approve", "manifest": manifest_hash, "site": site_id}


def verify_approval(manifest: Manifest, site_id: str, approval: Approval, code: str) -> None:
    """Refuses with `manifest.unknown_site`, with `approval.online_key` where the site's agent has signed, and
    with `code` whatever else is wrong."""
    payload = approval_payload(manifest.hash, site_id, approval.confirmed)
    manifest.site(site_id).verify_decision(APPROVAL_DOMAIN, payload, approval.signature, code)


def verify_approvals(manifest: Manifest, approvals: Mapping[str, Approval]) -> None:
    """Refuses with `manifest.not_approved` unless each site's approval key has signed this manifest's hash,
    with `approval.online_key` where its agent's has, with `manifest.unknown_site` anybody else's approval."""
    for site_id in sorted({site.id for site in manifest.sites}.union(approvals)):
        verify_approval(manifest, site_id, approvals.get(site_id, Approval((), "")), "manifest.not_approved")
