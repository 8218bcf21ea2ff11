"""Scores of tagged words, on a server's side: checked, and told as far as rows and entities support.

`accuracy` is the share of rows whose tags are all right; F1 is over entities (enclave/training/tags.py). Runs
inside both server enclaves; loaded by runs over datasets of the kind `token-tags` alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from contracts.refusal import Refusal
from enclave.programs.publication import LEAST_OF_A_LABEL, grain, to_grain
from enclave.training import rates
from enclave.training.metrics import Scores


def check_tags(scores: Scores, types: int) -> None:
    """Raises: `metrics.mismatch` where scores of another party contradict themselves or this run's types."""
    table = scores.confusion
    good = math.isfinite(scores.loss_sum) and scores.loss_sum >= 0
    good = good and len(table) == types and all(len(part) == 3 for part in table)
    good = good and scores.rows <= scores.predictions and scores.correct <= scores.predictions
    for sides in ((0, 1), (0, 2)):
        good = good and sum(part[side] for part in table for side in sides) <= scores.predictions
    if not good or scores.exact > scores.rows or scores.ended or scores.bins:
        raise Refusal("metrics.mismatch")


def rounded_of_tags(scores: Scores, known: Sequence[Scores]) -> dict[str, Any]:
    """As `publication.rounded`. F1 is told to a step of the entities that the rows have, and withheld where
    these are few."""
    fine = grain(scores.rows)
    numbers: dict[str, Any] = {"rows": scores.rows}
    if math.isfinite(rates.loss(scores)):
        numbers["loss"] = to_grain(rates.loss(scores), fine)
    numbers["accuracy"] = to_grain(rates.fraction(scores, scores.exact), fine)
    numbers["word_accuracy"] = to_grain(rates.accuracy(scores), fine)
    fewest = min(sum(_true(part) for part in score.confusion) for score in known)
    if fewest >= LEAST_OF_A_LABEL:
        totals = [sum(column) for column in zip(*scores.confusion, strict=True)]
        numbers["micro_f1"] = to_grain(f1(totals), grain(fewest))
    rarest = min(_true(part) for score in known for part in score.confusion)
    if rarest >= LEAST_OF_A_LABEL:
        mean = math.fsum(map(f1, scores.confusion)) / len(scores.confusion)
        numbers["macro_f1"] = to_grain(mean, grain(rarest))
    return numbers


def f1(part: Sequence[int]) -> float:
    """Of [in both, in the row alone, said alone]; 0 where there is none."""
    both, has, said = part
    return 2 * both / (2 * both + has + said) if both + has + said else 0.0


def _true(part: Sequence[int]) -> int:
    return part[0] + part[1]
