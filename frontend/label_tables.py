"""What a classifier does with each label, and whether it is as sure as it is right: from the counts that a
receipt tells of the test rows, rounded as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SHADES = 5


@dataclass(frozen=True)
class Cell:
    """So many rows; `shade` from 0 to SHADES is its share of the rows with this true label."""

    count: int
    shade: int


@dataclass(frozen=True)
class Label:
    """A label, its row of the confusion matrix, and what that comes to; None where too few rows are
    counted."""

    name: str
    cells: list[Cell]
    rows: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class Tenth:
    """Rows of which the model was so sure, from `low` to `high`, and the share that was right."""

    low: float
    high: float
    rows: int
    right: float | None


@dataclass(frozen=True)
class Tables:
    """`cell`: each count is a multiple of it. `several`: a row may have several labels; then there is no
    confusion of one with another, and `tenths` count decisions."""

    cell: int
    labels: list[Label]
    tenths: list[Tenth]
    calibration_error: float | None
    auroc: float | None
    several: bool = False


def tables_of(test: dict[str, Any], names: Sequence[str]) -> Tables | None:
    """None where the run's manifest asks for none, or they are withheld."""
    if "decisions" in test:
        labels = [_decided(*named) for named in zip(names, test["decisions"], strict=False)]
        return Tables(
            test["cell"], labels, _tenths(test), test.get("calibration_error"), test.get("auroc"), True
        )
    if "confusion" not in test:
        return None
    labels = [
        _label(name, place, test) for place, name in enumerate(names[: len(test["confusion"])])
    ]  # fmt: skip
    return Tables(test["cell"], labels, _tenths(test), test.get("calibration_error"), test.get("auroc"))


def _tenths(test: dict[str, Any]) -> list[Tenth]:
    rows, right = test["reliability"]
    size = 1 / len(rows)
    return [
        Tenth(place * size, (place + 1) * size, count, _share(right[place], count))
        for place, count in enumerate(rows)
        if count
    ]


def _decided(name: str, quad: Sequence[int]) -> Label:
    """A label of which a row may have several: rows that have it and are said to, have it, are said to,
    neither."""
    both, has, said, _neither = quad
    precision, recall = _share(both, both + said), _share(both, both + has)
    return Label(name, [], both + has, precision, recall, _share(2 * both, 2 * both + has + said))


def _label(name: str, place: int, test: dict[str, Any]) -> Label:
    row, rows, claims = test["confusion"][place], test["truth"][place], test["predicted"][place]
    hits = row[place]
    cells = [Cell(count, round(SHADES * min(1.0, count / rows)) if rows else 0) for count in row]
    return Label(name, cells, rows, _share(hits, claims), _share(hits, rows), _share(2 * hits, rows + claims))


def _share(part: int, whole: int) -> float | None:
    """Each count is rounded by itself, so a part may be told as more than its whole."""
    return min(1.0, part / whole) if whole else None
