"""Which lists of contributors let the scores of their sites be pooled.

An enclave publishes scores of one set of sites, by the receipts that it continues. A coordinator can keep a
receipt back, and have another instance of the enclave continue an earlier one: with other sites, or with
the same ones and parameters once more. Two such pools would be subtracted. So each site lets its scores be
pooled with those of one set of sites in a run, and once after a receipt, whatever it is told of the rounds
between. The agent keeps to it (site_agent/rosters.py), the coordinator asks for no more, and
`verify_bundle` looks again."""

from __future__ import annotations

from collections.abc import Iterable

from contracts.roster import Roster


def may_pool(roster: Roster, before: Iterable[Roster]) -> bool:
    """Whether the scores of this list may be pooled beside those of the run's other lists."""
    others = [other for other in before if other.pooled and other.round != roster.round]
    return all(sites_of(other) == sites_of(roster) and other.previous != roster.previous for other in others)


def sites_of(roster: Roster) -> tuple[str, ...]:
    """Whom it lists, in the order of their ids."""
    return tuple(entry.site for entry in roster.inputs)
