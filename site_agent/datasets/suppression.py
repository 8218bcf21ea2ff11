"""Small counts are not published, and neither is what would give them back.

A count below 5 can point at a patient. Leaving it out is not enough where the total is published: the total
less the other counts is the missing one. So more cells are hidden (complementary suppression), by this rule:

1. hide every cell below the threshold (0 is published: it points at nobody);
2. while the hidden cells together hold no more than (threshold - 1) x their number, that is, while all of
   them could be small, hide one more, in the order of the SHA-256 of the cells' names.

Rule 2 looks only at the sum and the number of hidden cells, which the published total gives away anyhow, and
chooses in an order that does not depend on counts. So a unit moved between hidden cells leads to the same
card, and whoever knows this rule still cannot tell the tables apart: every hidden cell keeps at least four
possible values. tests/site_agent/test_suppression.py goes through all small tables to see that it is so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from contracts.agents_api.datasets import THRESHOLD


def suppress(counts: Mapping[str, int]) -> dict[str, int | None]:
    """The counts that may be published beside their exact total; None is a hidden cell.

    Needs a total of at least twice the number of cells that are not 0 (`take_in` sees to it): where every
    label has one row, hiding the counts hides nothing.
    """
    hidden = {name for name, count in counts.items() if 0 < count < THRESHOLD}
    others = sorted((name for name, count in counts.items() if count >= THRESHOLD), key=_order)
    while hidden and others and sum(counts[name] for name in hidden) <= (THRESHOLD - 1) * len(hidden):
        hidden.add(others.pop(0))
    return {name: None if name in hidden else count for name, count in counts.items()}


def suppress_each(counts: Mapping[str, int], rows: int) -> dict[str, int | None]:
    """Of labels of which a row may have several: the counts are parts of no total, so none gives another
    away. Hidden is a count below the threshold, and one that leaves fewer rows than that without the label;
    0 and all rows are published."""
    small = range(1, THRESHOLD)
    return {
        name: None if count in small or rows - count in small else count for name, count in counts.items()
    }


def _order(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
