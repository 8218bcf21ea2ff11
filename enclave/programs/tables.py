"""Tables of the test, in a receipt: counts of one fixed set of sites, none finer than their rows support.

The test is scored once in a run and by nothing else, so no two tables can be subtracted. Each count is
rounded to a multiple of `cell`: the manifest's `publication.cells`, or more where there are so many rows that
their counts vary by more (√rows / 2, as for shares). So a cell of less than half of it is told as 0. The
areas under ROC curves are told as a mean, to a step of the rarest label's rows, and withheld as macro-F1 is.
Runs inside both server enclaves; loaded where a manifest asks for tables.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from contracts.refusal import Refusal
from contracts.tables import ODDS, TENTHS
from enclave.programs.publication import LEAST_OF_A_LABEL, grain, to_grain
from enclave.training.metrics import Scores


def check_bins(scores: Scores) -> None:
    """Refuse (`metrics.mismatch`) bins of another party that contradict its other scores, which are
    checked.

    Raises: `metrics.mismatch`.
    """
    labels, bins = len(scores.confusion), scores.bins
    if not labels:
        from enclave.programs.written import check_written

        check_written(scores)
        return
    sizes = [TENTHS] * 3 + [ODDS] * (2 * labels)
    good = [len(row) for row in bins] == sizes
    good = good and sum(bins[0]) == scores.rows and sum(bins[1]) == scores.correct
    good = good and all(
        right <= rows and per_mille <= 1000 * rows for rows, right, per_mille in zip(*bins[:3], strict=True)
    )
    for label, row in enumerate(scores.confusion):
        own, others = sum(row), scores.rows - sum(row)
        good = good and [sum(part) for part in bins[3 + 2 * label : 5 + 2 * label]] == [own, others]
    if not good:
        raise Refusal("metrics.mismatch")


def tables(scores: Scores, known: Sequence[Scores], cells: int) -> dict[str, Any]:
    """What the receipt says of a pool's bins and of its confusion; `known` as for `publication.rounded`."""
    if not scores.confusion:
        from enclave.programs.written import facts_of_written

        return facts_of_written(scores, known)
    size = cell(scores.rows, cells)

    def coarse(counts: Sequence[int]) -> list[int]:
        return [to_multiple(count, size) for count in counts]

    claims = [sum(column) for column in zip(*scores.confusion, strict=True)]
    found: dict[str, Any] = {
        "cell": size,
        "confusion": [coarse(row) for row in scores.confusion],
        "truth": coarse([sum(row) for row in scores.confusion]),
        "predicted": coarse(claims),
        "reliability": [coarse(scores.bins[0]), coarse(scores.bins[1])],
        "calibration_error": to_grain(calibration_error(scores), grain(scores.rows)),
    }
    rarest = min(min(sum(row), part.rows - sum(row)) for part in known for row in part.confusion)
    if rarest >= LEAST_OF_A_LABEL:
        areas = [area(*scores.bins[place : place + 2]) for place in range(3, len(scores.bins), 2)]
        found["auroc"] = to_grain(math.fsum(areas) / len(areas), grain(rarest))
    return found


def cell(rows: int, least: int) -> int:
    """The smallest of `least`, 5, 10, 20, 50, 100, … that is no smaller than `least` and √rows / 2."""
    wanted = max(least, math.sqrt(rows) / 2)
    if wanted == least:
        return least
    power = 10 ** math.floor(math.log10(wanted))
    return next(power * digit for digit in (1, 2, 5, 10) if power * digit >= wanted)


def calibration_error(scores: Scores) -> float:
    """The expected calibration error over ten bins of equal width (Naeini et al., AAAI 2015): the mean, by
    rows, of how far a bin's share of right rows is from its mean probability."""
    gaps = [abs(right - per_mille / 1000) for _rows, right, per_mille in zip(*scores.bins[:3], strict=True)]
    return math.fsum(gaps) / scores.rows


def area(own: Sequence[int], others: Sequence[int]) -> float:
    """The area under the ROC curve of binned scores: pairs in one bin count half, so that it is wrong by at
    most half the share of such pairs."""
    below, pairs = 0, 0.0
    for mine, theirs in zip(own, others, strict=True):
        pairs += mine * (below + theirs / 2)
        below += theirs
    return pairs / (sum(own) * sum(others))


def to_multiple(count: int, size: int) -> int:
    return (2 * count + size) // (2 * size) * size
