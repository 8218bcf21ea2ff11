"""Sweeps that tests make up, and a hospital's one signature for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from contracts.approvals import SWEEP_DOMAIN, Approval, Sweep, sweep_payload
from contracts.manifest import Manifest
from contracts.signing import SigningKey
from contracts.sweep_tree import SweepTree
from tests.support.approvals import members
from tests.support.keys import approval_key


def point(manifest: Manifest, seed: int) -> Manifest:
    """The same run with another seed, under a name of its own."""
    return replace(manifest, run=f"{manifest.run}-{seed}", training=replace(manifest.training, seed=seed))


def terms(manifests: Sequence[Manifest], **changes: Any) -> Sweep:
    """What a sweep of runs without noise states, but for `changes`."""
    count = len(manifests)
    sweep = Sweep(SweepTree([one.hash for one in manifests]).root, count, 1, 0.0, 0.0, count, 1e-5)
    return replace(sweep, **changes)


def approvals_of_sweep(
    manifest: Manifest, manifests: Sequence[Manifest], agents: Mapping[str, SigningKey], **changes: Any
) -> dict[str, Approval]:
    """Each hospital's approval of one of the manifests, by its one signature for all of them."""
    signed, known = terms(manifests, **changes), members(manifest)
    place = SweepTree([one.hash for one in manifests]).place(signed, manifest.hash)
    return {
        site: Approval(known, approval_key(key).sign(SWEEP_DOMAIN, sweep_payload(signed, site, known)), place)
        for site, key in agents.items()
    }
