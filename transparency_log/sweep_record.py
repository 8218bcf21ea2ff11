"""What a log says of sweeps that hospitals have approved by one signature each: no run beyond those that were
signed for, no epsilon beyond the one that was stated, no result let out beyond those that were allowed.

An enclave sees one run. That no two results of a sweep go out under one number is seen here alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from contracts.approvals import Approval, Sweep
from contracts.manifest import Manifest
from contracts.releases import ReleaseApproval
from privacy_accounting.epsilon import Gaussian, epsilon, planned
from transparency_log.receipt_faults import Fault

BEYOND = "bundle.beyond_sweep"
ROUNDED = 1 + 1e-9


class SweepRecord:
    """Takes approvals and releases in the order of the log."""

    def __init__(self) -> None:
        self._points: dict[tuple[str, str], dict[str, Manifest]] = defaultdict(dict)
        self._let_out: dict[tuple[str, str, int], str] = {}

    def approve(self, manifest: Manifest, site: str, sweep: Sweep) -> list[Fault]:
        """An approval whose signature is good: what its runs tell so far, by what it states."""
        points = self._points[site, sweep.root]
        points[manifest.hash] = manifest
        faults = []
        for level, stated in (("site", sweep.site), ("record", sweep.record)):
            found = epsilon(
                [step for one in points.values() for step in _planned(one, site, level)], sweep.delta
            )
            if found > stated * ROUNDED:
                faults.append(
                    f"its runs so far come to epsilon {found:.4g} per {level}, {stated:.4g} is stated"
                )
        bare = sum(one.aggregation.privacy is None for one in points.values())
        if bare > sweep.unbounded:
            faults.append(f"{bare} of its runs add no noise, {sweep.unbounded} is stated")
        return [(BEYOND, f"{site}'s approval of a sweep: {fault}.") for fault in faults]

    def release(
        self,
        manifest: str,
        by_site: Mapping[str, ReleaseApproval],
        approvals: Mapping[str, Approval],
    ) -> list[Fault]:
        """A release whose approvals are good: each number stands for one run."""
        faults = []
        for site, approval in by_site.items():
            place = approvals[site].sweep if site in approvals else None
            if place is None or approval.number is None:
                continue
            first = self._let_out.setdefault((site, place.signed.root, approval.number), manifest)
            if first != manifest:
                words = (
                    f"result {approval.number} of a sweep, by {site}'s approvals, is another run's already."
                )
                faults.append((BEYOND, words))
        return faults


def _planned(manifest: Manifest, site: str, level: str) -> list[Gaussian]:
    """What this run's noise comes to, taking all of the dataset's rows for training rows: never too much."""
    privacy = manifest.aggregation.privacy
    if privacy is None or privacy.unit != level:
        return []
    return planned(privacy, manifest.training, manifest.site(site).dataset.rows)
