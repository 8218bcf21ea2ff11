"""The roster: who contributes to a round, fixed and countersigned before anything is aggregated.

Each listed site signs one roster per (manifest, round) with its site key. As every listed site must have
signed, two rosters of one round that share a site cannot both be complete: a coordinator cannot aggregate two
subsets and subtract. A site that is lost between its contribution and its signature costs the round, not the
run: the next round opens without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from contracts import signing
from contracts.approvals import Approval
from contracts.canonical import digest
from contracts.counting import counted
from contracts.manifest import Identifier, Manifest
from contracts.policy import Hex32
from contracts.refusal import Refusal
from contracts.signing import SigningKey

ROSTER_DOMAIN = "fedslice/roster/v1"


class RosterEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """A site and the SHA-256 of its sealed contribution."""

    site: Identifier
    sha256: Hex32


class Roster(Struct, frozen=True, forbid_unknown_fields=True):
    """`inputs` stand in the order of site ids; `previous` is the hash of the run's last receipt
    (receipts.NO_RECEIPT before the first). `pooled` lets the scores of these sites be told, pooled, where the
    manifest does (contracts/pooling.py)."""

    manifest: Hex32
    round: Annotated[int, Meta(ge=1, lt=2**31)]
    inputs: Annotated[tuple[RosterEntry, ...], Meta(min_length=1, max_length=1000)]
    previous: Hex32
    pooled: bool


def roster_hash(roster: Roster) -> str:
    """SHA-256 of the canonical roster, in hex: what the receipt names."""
    return digest(roster)


def parse_roster(data: bytes | dict[str, Any]) -> Roster:
    """Read a roster (JSON bytes or decoded JSON) strictly.

    Raises: `roster.invalid`.
    """
    try:
        if isinstance(data, bytes):
            return msgspec.json.decode(data, type=Roster)
        return msgspec.convert(data, Roster)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal("roster.invalid", round=None, fault=str(error)[:200]) from error


def countersign(roster: Roster, signer: SigningKey) -> str:
    """A site's countersignature (hex). The agent must first find its own contribution in the roster and the
    receipt that it saw last in `previous`, and must never sign a second roster of one round."""
    return signer.sign(ROSTER_DOMAIN, roster)


def verify_roster(
    roster: Roster, signatures: Mapping[str, str], manifest: Manifest, approvals: Mapping[str, Approval]
) -> None:
    """Check a roster before aggregating, inside the aggregator.

    1. it is for this manifest; its sites are members, each listed once, in the order of their ids
    2. no two list the same contribution, and at least `aggregation.quorum` of them count
       by the members' `approvals` (contracts/counting.py)
    3. every listed site has countersigned it with its key in the manifest; other members may have, too

    Raises: `roster.invalid`, `roster.below_quorum`, `roster.not_countersigned` or
    `roster.bad_countersignature`; `manifest.unknown_site` for a stranger.
    """
    roster = parse_roster(msgspec.to_builtins(roster))
    sites = [entry.site for entry in roster.inputs]
    blobs = {entry.sha256 for entry in roster.inputs}
    faults = {
        "it belongs to another manifest": roster.manifest != manifest.hash,
        "its sites are not in the order of their ids": sites != sorted(set(sites)),
        "two sites list the same contribution": len(blobs) < len(sites),
    }
    for fault, is_one in faults.items():
        if is_one:
            raise Refusal("roster.invalid", round=roster.round, fault=fault)
    keys = {site: manifest.site(site).public_key for site in (*sites, *signatures)}
    found, quorum = counted(approvals, sites), manifest.aggregation.quorum
    if found < quorum:
        raise Refusal("roster.below_quorum", round=roster.round, found=found, quorum=quorum)
    for site in sites:
        if site not in signatures:
            raise Refusal("roster.not_countersigned", round=roster.round, site=site)
    for site, signature in signatures.items():
        try:
            signing.verify(keys[site], ROSTER_DOMAIN, roster, signature)
        except Refusal as refusal:
            raise Refusal("roster.bad_countersignature", round=roster.round, site=site) from refusal
