"""The least that a hospital should ask of a run, whatever it has approved before."""

from __future__ import annotations

from collections.abc import Iterator

from contracts.manifest import Manifest
from contracts.releases import EXPORT, SEALED
from site_agent.weaknesses.kinds import Weakness

LEAST = 2
"""Sites that a mean is taken over, and that sign a release, at least."""


def of_numbers(manifest: Manifest) -> Iterator[Weakness]:
    """A quorum or release by one hospital, and parameters that leave in clear."""
    if manifest.aggregation.quorum < LEAST:
        yield Weakness(
            "quorum-below-two",
            "A round needs one hospital only: a mean over one hospital is that hospital's parameters.",
        )
    rule = manifest.release.rule
    if rule in (SEALED, EXPORT) and manifest.release.approvals < LEAST:
        yield Weakness("release-by-one", "One hospital's signature is enough to release the parameters.")
    if rule == EXPORT:
        yield Weakness(
            "export",
            "The tuned parameters may leave in clear: the study's lead and the coordinator's operator can "
            "read them, and whoever gets a copy.",
        )
