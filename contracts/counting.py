"""How many of a run's members count towards a minimum: a quorum, a roster, pooled scores, names of a state,
orders of release.

Each hospital has said, signed, whose keys it has compared by another channel. A set of members is counted in
every hospital's view, and the smallest count decides. So a hospital that the coordinator has made up can
lower a count, by confirming few, and can raise none beyond what an honest hospital itself has confirmed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from contracts.course import naming_sites, server_of
from contracts.manifest import Manifest


class Confirming(Protocol):
    """An approval, or an order of release."""

    @property
    def confirmed(self) -> tuple[str, ...]: ...


def views(approvals: Mapping[str, Confirming]) -> set[frozenset[str]]:
    """Whom the hospitals know to be real: themselves, and those whom each has confirmed."""
    return {frozenset((site, *given.confirmed)) for site, given in approvals.items()}


def counted(approvals: Mapping[str, Confirming], sites: Iterable[str]) -> int:
    """How many of these sites count: as many as the hospital knows that knows the fewest of them. Without an
    approval, none."""
    these = frozenset(sites)
    return min((len(view & these) for view in views(approvals)), default=0)


def known_to_all(approvals: Mapping[str, Confirming]) -> frozenset[str]:
    """The sites that every hospital has confirmed."""
    return frozenset.intersection(*views(approvals)) if approvals else frozenset()


def least_confirmed(manifest: Manifest) -> int:
    """How many members, itself among them, a hospital must have confirmed that this run can come to its end:
    the largest of its minimums. Scores may stay unpublished."""
    lets_out = manifest.release.rule != "nothing"
    return max(
        manifest.aggregation.quorum,
        manifest.release.approvals if lets_out else 0,
        naming_sites(manifest) if server_of(manifest) == "split_server" else 0,
    )
