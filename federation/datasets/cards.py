"""The second look at the suppression of a dataset card (contracts/agents_api/datasets.py).

The agent suppresses small counts (site_agent/datasets/suppression.py says the rule and why). We check that it
did: a card that shows a small count, or lets one be worked out, is refused and not stored.
"""

from __future__ import annotations

import msgspec

from contracts.agents_api.datasets import Card
from contracts.kinds import CONVERSATIONS, LABELLED, SEVERAL, TAGGED
from contracts.refusal import Refusal


def check(card: Card) -> None:
    """Refuse a card that gives a small count away, or that is not one of its kind.

    Raises: `card.too_small`, `card.kind`, `card.small_count`, `card.recoverable_count` or `card.wrong_sum`.
    """
    fits = (
        bool(card.labels) <= (card.kind in (*LABELLED, TAGGED)),
        bool(card.answer_length) <= (card.kind in CONVERSATIONS),
        bool(card.turns) <= (card.kind == "messages"),
    )
    if not all(fits):
        raise Refusal("card.kind", kind=card.kind)
    if card.rows < card.threshold:
        raise Refusal("card.too_small", rows=card.rows, threshold=card.threshold)
    if card.kind in (SEVERAL, TAGGED):
        _check_each(card)
    elif card.labels:
        _check_counts("labels", dict(card.labels), card)
    _check_counts("splits", {str(name): count for name, count in card.splits.items()}, card)


def _check_each(card: Card) -> None:
    """Of labels of which a row may have several: each count stands for itself, and is published where neither
    it nor what it leaves of all rows is small."""
    for count in card.labels.values():
        if count is None:
            continue
        for part in (count, card.rows - count):
            if part < 0:
                raise Refusal("card.wrong_sum", part="labels", rows=card.rows)
            if 0 < part < card.threshold:
                raise Refusal("card.small_count", count=part, threshold=card.threshold)


def _check_counts(part: str, counts: dict[str, int | None], card: Card) -> None:
    """`rows` is published, so the hidden cells' sum is known: `rows` less the published ones.

    1. A published cell is 0 (it points at nobody) or at least the threshold.
    2. The cells add up: with none hidden exactly, else with at least one row for each hidden cell.
    3. Hidden cells are two or more, with two rows a cell at least, and together so large that one of them
       must be larger than any small count, unless there was nothing left to hide.
    """
    published = [count for count in counts.values() if count is not None]
    hidden = len(counts) - len(published)
    for count in published:
        if 0 < count < card.threshold:
            raise Refusal("card.small_count", count=count, threshold=card.threshold)
    rest = card.rows - sum(published)
    if rest < hidden or (hidden == 0 and rest != 0):
        raise Refusal("card.wrong_sum", part=part, rows=card.rows)
    all_hidden = not any(published)
    all_could_be_small = rest <= (card.threshold - 1) * hidden
    if hidden and (hidden == 1 or rest < 2 * hidden or (all_could_be_small and not all_hidden)):
        raise Refusal("card.recoverable_count", part=part)


def read(stored: object) -> Card:
    """A card from its JSON column."""
    return msgspec.convert(stored, Card)
