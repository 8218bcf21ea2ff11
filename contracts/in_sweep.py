"""Whether a manifest stands in the tree that one signature of a hospital is over (contracts/approvals.py)."""

from __future__ import annotations

from contracts.approvals import InSweep
from contracts.log.merkle import leaf_hash, verify_inclusion
from contracts.refusal import Refusal


def require_in_sweep(manifest_hash: str, site_id: str, place: InSweep) -> None:
    """Raises: `approval.not_in_sweep`."""
    root, *path = (bytes.fromhex(one) for one in (place.signed.root, *place.path))
    try:
        verify_inclusion(place.index, place.signed.runs, leaf_hash(bytes.fromhex(manifest_hash)), path, root)
    except Refusal as refusal:
        raise Refusal("approval.not_in_sweep", site=site_id) from refusal
