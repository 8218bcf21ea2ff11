"""How alike the hospitals' labels are: shares for a chart, and a number for the skew.

Only published counts are known (a card hides small ones), so hidden rows are a part of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from federation.datasets.models import Dataset

COLOURS = 8


def overlap(datasets: Sequence[Dataset]) -> dict[str, Any]:
    """The labels by how often they are published, and a bar a dataset. `x` and `width` are per cent of it.
    Labels after the first COLOURS share one colour."""
    counts = {dataset.pk: _published(dataset) for dataset in datasets}
    total: Counter[str] = Counter()
    for published in counts.values():
        total.update(published)
    every = sorted({label for d in datasets for label in d.card["labels"]}, key=lambda x: (-total[x], x))
    shared = [label for label in every if all(label in d.card["labels"] for d in datasets)]
    bars = [_bar(dataset, counts[dataset.pk], total, every) for dataset in datasets]
    return {
        "labels": [{"name": label, "colour": min(i, COLOURS)} for i, label in enumerate(every)],
        "more": max(0, len(every) - COLOURS),
        "shared": len(shared),
        "partly": [label for label in every if label not in shared],
        "bars": bars,
        "hides": any(bar["hidden"] for bar in bars),
        "worst": max((bar["skew"] for bar in bars if bar["skew"] is not None), default=None),
    }


def _published(dataset: Dataset) -> dict[str, int]:
    return {label: count for label, count in dataset.card["labels"].items() if count}


def _bar(dataset: Dataset, mine: dict[str, int], total: Counter[str], every: list[str]) -> dict[str, Any]:
    parts, x = [], 0.0
    rows = max(1, dataset.rows, sum(mine.values()))  # a row may have several labels
    for i, label in enumerate(every):
        if label in mine:
            width = 100 * mine[label] / rows
            parts.append({"label": label, "count": mine[label], "x": x, "width": width,
                          "colour": min(i, COLOURS)})  # fmt: skip
            x += width
    hidden = max(0, dataset.rows - sum(mine.values()))
    cells = [
        {
            "label": label,
            "count": dataset.card["labels"].get(label),
            "offered": label in dataset.card["labels"],
        }
        for label in every
    ]
    return {"dataset": dataset, "parts": parts, "hidden": hidden, "hidden_x": x, "hidden_width": 100 - x,
            "skew": _distance(mine, total), "cells": cells}  # fmt: skip


def _distance(mine: dict[str, int], total: Counter[str]) -> float | None:
    """Total variation distance between this site's labels and all sites' together: 0 the same mixture, 1
    nothing in common."""
    own, whole = sum(mine.values()), sum(total.values())
    if not own or not whole:
        return None
    return sum(abs(mine.get(label, 0) / own - count / whole) for label, count in total.items()) / 2
