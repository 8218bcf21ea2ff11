"""An enclave's statement of a release, as it is read and held against the manifest outside of enclaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import rfc8785

from contracts.approvals import Approval
from contracts.canonical import canonical, digest
from contracts.manifest import Manifest
from contracts.refusal import Refusal
from contracts.releases import (
    RELEASED_DOMAIN,
    SEALED,
    SERVE,
    ReleaseApproval,
    SignedRelease,
    require_approved,
)
from contracts.signing import verify
from contracts.strict_reading import read_strictly

MAX_STATEMENT_BYTES = 1 << 20


def parse_release(data: bytes | SignedRelease | dict[str, Any]) -> SignedRelease:
    """Read a statement (JSON bytes or decoded JSON) strictly, and verify its signature, not whose key it is.

    Raises: `release.bad_statement` or `sealing.bad_signature`.
    """
    signed = read_strictly(data, SignedRelease, code="release.bad_statement", limit=MAX_STATEMENT_BYTES)
    try:
        canonical(signed)
    except rfc8785.CanonicalizationError as error:
        raise Refusal("release.bad_statement", fault=str(error)[:200]) from error
    verify(signed.signing_key, RELEASED_DOMAIN, signed.released, signed.signature)
    return signed


def fingerprint(receipt: str, rule: str) -> str:
    """What a person compares and types before they approve: of a release the hash of the receipt, of serving
    another value, so that nobody types the one and means the other."""
    return digest({"receipt": receipt, "rule": rule}) if rule == SERVE else receipt


def check_release(
    signed: SignedRelease,
    manifest: Manifest,
    receipt: str,
    by_site: Mapping[str, ReleaseApproval],
    approvals: Mapping[str, Approval],
) -> None:
    """Whether a statement says no other than what the manifest allows and the sites have approved.

    Raises: `release.mismatch`, or as `require_approved`.
    """
    said = signed.released
    require_approved(manifest, receipt, by_site, approvals)
    sites = tuple(sorted(by_site))
    fits = {
        "manifest": (said.manifest, said.run) == (manifest.hash, manifest.run),
        "receipt": said.receipt == receipt,
        "rule": said.rule == manifest.release.rule,
        "approved_by": said.approved_by == sites,
        "recipients": said.recipients == (sites if said.rule == SEALED else ()),
        "program": said.program == ("split_server" if manifest.method == "method-2" else "aggregator"),
        "development": said.development == (manifest.policy.root == "development"),
    }
    for field, right in fits.items():
        if not right:
            raise Refusal("release.mismatch", field=field)
