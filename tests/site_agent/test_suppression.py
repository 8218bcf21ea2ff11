"""What is published of small counts cannot be worked back, by somebody who knows the rule and the total."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.agents_api.datasets import THRESHOLD
from site_agent.datasets.card import make_card
from site_agent.datasets.suppression import suppress

Suppress = Callable[[Mapping[str, int]], dict[str, int | None]]
Table = tuple[int, ...]


def tables(cells: int, total: int) -> Iterator[Table]:
    """All tables with this total; rows at least twice the cells that are not empty, as `take_in` asks."""
    if cells == 1:
        yield (total,)
        return
    for first in range(total + 1):
        for rest in tables(cells - 1, total - first):
            yield (first, *rest)


def least_uncertainty(rule: Suppress, cells: int, total: int) -> int:
    """The smallest number of values that a hidden cell can still have, over every card of such tables.

    The attacker knows the rule and the total, and tries every table: what remains are those with this card.
    """
    consistent: dict[tuple[int | None, ...], list[Table]] = defaultdict(list)
    for counts in tables(cells, total):
        if total >= 2 * sum(count > 0 for count in counts):
            card = rule({f"label {index}": count for index, count in enumerate(counts)})
            consistent[tuple(card.values())].append(counts)
    return min(
        (
            len({table[index] for table in possible})
            for card, possible in consistent.items()
            for index, value in enumerate(card)
            if value is None
        ),
        default=total,
    )


@pytest.mark.parametrize(("cells", "totals"), [(2, range(10, 40)), (3, range(10, 30)), (4, range(10, 21))])
def test_no_hidden_cell_can_be_recomputed(cells: int, totals: range) -> None:
    for total in totals:
        assert least_uncertainty(suppress, cells, total) >= 4, f"{cells} cells, {total} rows"


def small_only(counts: Mapping[str, int]) -> dict[str, int | None]:
    return {name: None if 0 < count < THRESHOLD else count for name, count in counts.items()}


def smallest_as_partner(counts: Mapping[str, int]) -> dict[str, int | None]:
    """The usual rule: hide the small cell and the next smallest."""
    hidden = sorted(counts, key=lambda name: counts[name])
    hidden = hidden[: max(2, sum(0 < count < THRESHOLD for count in counts.values()))]
    some = any(0 < count < THRESHOLD for count in counts.values())
    return {name: None if some and name in hidden else count for name, count in counts.items()}


@pytest.mark.parametrize("weak", [small_only, smallest_as_partner])
def test_the_attack_breaks_weaker_rules(weak: Suppress) -> None:
    assert min(least_uncertainty(weak, 3, total) for total in range(10, 24)) == 1


@settings(deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=8), st.integers(0, 60), min_size=1, max_size=12))
def test_published_counts_are_true_and_never_small(counts: dict[str, int]) -> None:
    card = suppress(counts)
    assert list(card) == list(counts)
    for name, shown in card.items():
        assert shown is None or (shown == counts[name] and (shown == 0 or shown >= THRESHOLD))


@settings(deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=8), st.integers(5, 60), min_size=1, max_size=12))
def test_nothing_is_hidden_where_nothing_is_small(counts: dict[str, int]) -> None:
    assert suppress(counts) == counts


def test_the_card_of_a_known_dataset() -> None:
    card = make_card({"b": 3, "a": 20, "c": 17}, {"train": 34, "test": 6}, list(range(1, 41)))
    assert card.rows == 40
    assert card.labels["b"] is None
    assert sum(count is None for count in card.labels.values()) == 2
    assert card.splits == {"train": 34, "validation": 0, "test": 6}
    assert card.text_length == {"p10": 4, "p25": 10, "p50": 20, "p75": 30, "p90": 36}
