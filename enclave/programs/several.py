"""Scores of rows that may have several labels, on a server's side: checked, and told as far as rows support.

`accuracy` is the share of rows whose labels are all right; micro-F1 is over all decisions together, macro-F1
the mean over labels. `confusion` has for each label its rows by [has it and is said to, has it, is said to,
neither] (enclave/training/several.py). Runs inside both server enclaves; loaded by runs over datasets of the
kind `text-labels` alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from contracts.refusal import Refusal
from contracts.tables import ODDS, TENTHS
from enclave.programs.publication import LEAST_OF_A_LABEL, grain, to_grain
from enclave.programs.tables import area, cell, to_multiple
from enclave.training import rates
from enclave.training.metrics import Scores

Quad = Sequence[int]


def check_several(scores: Scores, labels: int, *, tables: bool) -> None:
    """Refuse (`metrics.mismatch`) scores of another party that contradict themselves or this run's labels.

    Raises: `metrics.mismatch`.
    """
    table, bins = scores.confusion, scores.bins
    good = math.isfinite(scores.loss_sum) and scores.loss_sum >= 0
    good = good and len(table) == labels and all(len(quad) == 4 for quad in table)
    good = good and all(sum(quad) == scores.rows for quad in table)
    good = good and scores.predictions == scores.rows * labels
    good = good and sum(quad[0] + quad[3] for quad in table) == scores.correct
    good = good and scores.exact <= scores.rows and not scores.ended and bool(bins) == tables
    if good and tables:
        good = [len(row) for row in bins] == [TENTHS] * 3 + [ODDS] * (2 * labels)
        has = [quad[0] + quad[1] for quad in table]
        good = good and sum(bins[0]) == scores.predictions and sum(bins[1]) == sum(has)
        good = good and all(
            right <= all_ and per_mille <= 1000 * all_
            for all_, right, per_mille in zip(*bins[:3], strict=True)
        )
        parts = [sum(row) for row in bins[3:]]
        good = good and parts == [part for rows in has for part in (rows, scores.rows - rows)]
    if not good:
        raise Refusal("metrics.mismatch")


def rounded_of_several(scores: Scores, known: Sequence[Scores], cells: int) -> dict[str, Any]:
    """As `publication.rounded` and, where there are bins, `tables.tables`."""
    fine = grain(scores.rows)
    numbers: dict[str, Any] = {"rows": scores.rows, "labels": len(scores.confusion)}
    if math.isfinite(rates.loss(scores)):
        numbers["loss"] = to_grain(rates.loss(scores), fine)
    numbers["accuracy"] = to_grain(rates.fraction(scores, scores.exact), fine)
    numbers["micro_f1"] = to_grain(f1([sum(column) for column in zip(*scores.confusion, strict=True)]), fine)
    rarest = min(min(_sides(quad)) for part in known for quad in part.confusion)
    if rarest >= LEAST_OF_A_LABEL:
        mean = math.fsum(map(f1, scores.confusion)) / len(scores.confusion)
        numbers["macro_f1"] = to_grain(mean, grain(rarest))
    if scores.bins:
        size = cell(scores.rows, cells)
        numbers["cell"] = size
        numbers["decisions"] = [[to_multiple(count, size) for count in quad] for quad in scores.confusion]
        numbers["reliability"] = [[to_multiple(count, size) for count in row] for row in scores.bins[:2]]
        gaps = [abs(right - mille / 1000) for _all, right, mille in zip(*scores.bins[:3], strict=True)]
        numbers["calibration_error"] = to_grain(math.fsum(gaps) / scores.predictions, fine)
        if rarest >= LEAST_OF_A_LABEL:
            areas = [area(*scores.bins[place : place + 2]) for place in range(3, len(scores.bins), 2)]
            numbers["auroc"] = to_grain(math.fsum(areas) / len(areas), grain(rarest))
    return numbers


def f1(quad: Quad) -> float:
    """Of a label; 0 where no row has it and none is said to (as in scikit-learn)."""
    both, has, said, _neither = quad
    return 2 * both / (2 * both + has + said) if both + has + said else 0.0


def _sides(quad: Quad) -> tuple[int, int]:
    """Rows with the label, and the others."""
    return quad[0] + quad[1], quad[2] + quad[3]
