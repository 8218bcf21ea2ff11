"""A hospital's approval of a run, and whom of the run's members it knows to be real.

The coordinator invites the members, so it could make hospitals up and hold their keys. An approval therefore
names, signed, whose keys that hospital has compared by another channel; contracts/counting.py counts by it.
docs/decisions/0029 has the reasons. One signature may be for all runs of a sweep (docs/decisions/0039): it is
over the root of the tree of their manifests, and a run's approval shows its manifest's path to that root.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from msgspec import Meta, Struct, to_builtins

from contracts.manifest import APPROVAL_DOMAIN, Identifier, Manifest
from contracts.policy import Hex32
from contracts.receipts import Hex64

SWEEP_DOMAIN = "fedslice/approval-of-sweep/v1"

Epsilon = Annotated[float, Meta(ge=0)]


class Sweep(Struct, frozen=True, forbid_unknown_fields=True):
    """What one signature approves: so many `runs`, whose manifests' hashes are the leaves of the tree (RFC
    6962) with this `root`, and that at most so many of their results are released. `site` and `record` are
    the epsilon at `delta` of all of them together for this hospital's rows, `unbounded` is how many add no
    noise: computed outside of enclaves, held against the manifests by whoever reads the log."""

    root: Hex32
    runs: Annotated[int, Meta(ge=1, le=1000)]
    releases: Annotated[int, Meta(ge=0, le=1000)]
    site: Epsilon
    record: Epsilon
    unbounded: Annotated[int, Meta(ge=0, le=1000)]
    delta: Epsilon


class InSweep(Struct, frozen=True, forbid_unknown_fields=True):
    """What was signed, and where in it the manifest stands: leaf number `index`, and its path to the root."""

    signed: Sweep
    index: Annotated[int, Meta(ge=0, lt=1000)]
    path: Annotated[tuple[Hex32, ...], Meta(max_length=10)]


class Approval(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`confirmed` are the ids of the members whose keys this hospital has compared, with or without its own;
    `signature` is its approval key's (hex), over `approval_payload`, or, in a sweep, `sweep_payload`."""

    confirmed: tuple[Identifier, ...]
    signature: Hex64
    sweep: InSweep | None = None


def approval_payload(manifest_hash: str, site_id: str, confirmed: Sequence[str]) -> dict[str, object]:
    """What a site's approval key signs, under APPROVAL_DOMAIN, to approve a run."""
    return {"confirmed": list(confirmed), "decision": "approve", "manifest": manifest_hash, "site": site_id}


def sweep_payload(sweep: Sweep, site_id: str, confirmed: Sequence[str]) -> dict[str, Any]:
    """What it signs, under SWEEP_DOMAIN, to approve all runs of a sweep."""
    return {"confirmed": list(confirmed), "decision": "approve", "site": site_id, "sweep": to_builtins(sweep)}


def verify_approval(manifest: Manifest, site_id: str, approval: Approval, code: str) -> None:
    """Raises: `manifest.unknown_site`, `approval.not_in_sweep` where the manifest is none of those that
    were signed, `approval.online_key` where the site's agent has signed, and `code` whatever else is
    wrong.
    """
    domain, payload = APPROVAL_DOMAIN, approval_payload(manifest.hash, site_id, approval.confirmed)
    if approval.sweep is not None:
        from contracts.in_sweep import require_in_sweep  # loaded where somebody has signed for a sweep

        require_in_sweep(manifest.hash, site_id, approval.sweep)
        domain, payload = SWEEP_DOMAIN, sweep_payload(approval.sweep.signed, site_id, approval.confirmed)
    manifest.site(site_id).verify_decision(domain, payload, approval.signature, code)


def verify_approvals(manifest: Manifest, approvals: Mapping[str, Approval]) -> None:
    """Raises: `manifest.not_approved` unless each site's approval key has signed this manifest's hash,
    alone or in a sweep, `approval.not_in_sweep`, `approval.online_key` where its agent's has,
    `manifest.unknown_site` for anybody else's approval.
    """
    for site_id in sorted({site.id for site in manifest.sites}.union(approvals)):
        verify_approval(manifest, site_id, approvals.get(site_id, Approval((), "")), "manifest.not_approved")
