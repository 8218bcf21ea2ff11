"""Which scores leave a server enclave: pooled ones of one fixed set of sites, as fine as their rows support.

A score of few rows tells about single rows, two pools that differ by one site can be subtracted, and a score
to many digits gives back the counts behind it. So a pool is published only over the manifest's minimum of
sites and rows; the first pool that is fixes its set of sites for the run, and a round with another set
publishes none; and every number is rounded to a step that is no smaller than the largest standard error of a
share of so many rows, 1 / (2 √rows). Who makes a hospital up knows its rows and scores, so each minimum must
hold over those that each hospital has confirmed. Runs inside the enclave.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contracts.approvals import Approval
from contracts.counting import counted, views
from contracts.manifest import Publication
from contracts.receipts import Scoring
from contracts.refusal import Refusal
from enclave.training import rates
from enclave.training.metrics import Scores

LEAST_OF_A_LABEL = 10
"""Rows that each label must have among those scored before macro-F1, which looks at labels alone, is told."""

Numbers = dict[str, Any]
Table = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Published:
    """The pooled numbers (none where they are withheld), and what the receipt says about them."""

    numbers: Numbers
    scoring: Scoring


def publish(
    rules: Publication,
    scores: Mapping[str, Scores],
    fixed: tuple[str, ...],
    approvals: Mapping[str, Approval],
    coded: str | None = None,
) -> Published:
    """Pool a round's scores by site; `fixed` is the set of sites of the run's first published pool, empty
    before it. `coded` is the manifest's (`Manifest.coded`)."""
    scored = {site: score for site, score in scores.items() if score.rows}
    sites = tuple(sorted(scored))
    if counted(approvals, sites) < rules.sites:
        return Published({}, Scoring(fixed, "too_few_sites"))
    known = [pool([scored[site] for site in view.intersection(sites)]) for view in views(approvals)]
    if min(part.rows for part in known) < rules.rows:
        return Published({}, Scoring(fixed, "too_few_rows"))
    if fixed and sites != fixed:
        return Published({}, Scoring(fixed, "another_set"))
    whole = pool(list(scored.values()))
    if coded:
        from enclave.programs.coded import rounded_of_coded

        return Published(rounded_of_coded(whole, known, rules.cells, coded), Scoring(sites, None))
    numbers = rounded(whole, known)
    if whole.bins:
        from enclave.programs.tables import tables

        numbers |= tables(whole, known, rules.cells)
    return Published(numbers, Scoring(sites, None))


def pool(scores: Sequence[Scores]) -> Scores:
    """The scores of all rows together.

    Raises: `metrics.mismatch` when they count different things.
    """
    if len({(len(score.confusion), len(score.bins)) for score in scores}) != 1:
        raise Refusal("metrics.mismatch")
    return Scores(
        rows=sum(score.rows for score in scores),
        predictions=sum(score.predictions for score in scores),
        correct=sum(score.correct for score in scores),
        loss_sum=math.fsum(score.loss_sum for score in scores),
        confusion=_added([score.confusion for score in scores]),
        exact=sum(score.exact for score in scores),
        ended=sum(score.ended for score in scores),
        bins=_added([score.bins for score in scores]),
    )


def _added(tables: Sequence[Table]) -> Table:
    """All of one shape, cell by cell."""
    return tuple(tuple(map(sum, zip(*rows, strict=True))) for rows in zip(*tables, strict=True))


def grain(rows: int) -> float:
    """The smallest of …, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1 that is no smaller than 1 / (2 √rows)."""
    error = 1 / (2 * math.sqrt(max(rows, 1)))
    power = 10.0 ** math.floor(math.log10(error))
    return next(power * digit for digit in (1, 2, 5, 10) if power * digit >= error)


def rounded(scores: Scores, known: Sequence[Scores]) -> Numbers:
    """The summary of a pool to what its rows support; `known` are its parts that hospitals have confirmed.
    What no JSON number can say (the loss of a model that has diverged) is left out. Perplexity is that of the
    rounded loss."""
    numbers: Numbers = {"rows": scores.rows}
    loss = to_grain(rates.loss(scores), grain(scores.rows)) if math.isfinite(rates.loss(scores)) else None
    if loss is not None:
        numbers["loss"] = loss
    if not scores.confusion:
        fractions = (
            rates.accuracy(scores),
            rates.fraction(scores, scores.exact),
            rates.fraction(scores, scores.ended),
        )
        for name, part in zip(("token_accuracy", "exact_match", "stop_rate"), fractions, strict=True):
            numbers[name] = to_grain(part, grain(scores.rows))
        if loss is not None and loss < 36:  # else it is beyond the integers of JSON
            numbers["perplexity"] = float(f"{math.exp(loss):.4g}")
        return numbers
    numbers["accuracy"] = to_grain(rates.accuracy(scores), grain(scores.rows))
    rarest = min(sum(row) for part in known for row in part.confusion)
    if rarest >= LEAST_OF_A_LABEL:
        numbers["macro_f1"] = to_grain(rates.macro_f1(scores), grain(rarest))
    return numbers


def to_grain(value: float, size: float) -> float:
    # To 12 digits, so that 3 · 0.1 is written 0.3.
    return round(round(value / size) * size, 12)
