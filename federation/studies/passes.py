"""How many examples a run passes through the model beside those that it trains on: what is scored, where a
question is passed once for each of its choices, and answers that the model writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from contracts.kinds import CHOSEN, Kind

if TYPE_CHECKING:
    from federation.datasets.models import Dataset
    from federation.studies.workload import Workload

CHOICES = 4
"""Of a question whose answer is chosen: neither card nor manifest tells how many, and the files that people
bring have three to five."""
SCORED = 0.2
"""The share of rows for validation and test, half each, where it is not known: what an agent takes."""
FORWARD, BOTH = 2, 4
"""Multiplications and additions for each frozen weight: forward, and forward with the gradients' way back."""


@dataclass(frozen=True)
class ScoringWork:
    """`scored` are each site's rows that are scored and not trained on (None: not known), `examples` how many
    each of them is; of `written_rows` answers of `written_tokens` are written in each scoring. `packing` is
    the length of sequences in which rows to train on stand together, 0 for none."""

    scored: tuple[int, ...] | None = None
    examples: int = 1
    written_rows: int = 0
    written_tokens: int = 0
    packing: int = 0


UNKNOWN = ScoringWork()


def examples_of(kind: Kind) -> int:
    """How many examples a row to score is."""
    return CHOICES if kind == CHOSEN else 1


def scored_by(datasets: Sequence[Dataset]) -> tuple[int, ...]:
    """By the cards; where one does not publish how many rows train, as if nothing were known."""
    trained = [dataset.card.get("splits", {}).get("train") for dataset in datasets]
    return tuple(
        round(SCORED * dataset.rows) if known is None else dataset.rows - known
        for dataset, known in zip(datasets, trained, strict=True)
    )


def scored_rows(work: Workload) -> tuple[int, ...]:
    """Each site's rows that are scored."""
    return work.passes.scored or tuple(round(SCORED * rows) for rows in work.rows)


def featured(work: Workload) -> tuple[int, ...]:
    """Of how many examples each site has features: a question to be scored has those of each choice."""
    more = work.passes.examples - 1
    return tuple(rows + more * held for rows, held in zip(work.rows, scored_rows(work), strict=True))


def operations(
    work: Workload, weights: int, trained: int, in_turn: Callable[[Workload], int], answering: int
) -> float:
    """Multiplications and additions on the way that decides the time; `weights` are of the frozen linears
    that are passed, `answering` those of a language model's output layer, `in_turn` says how many rows one
    machine works on."""
    passes, learnt = work.passes, float(work.tokens)
    if passes.packing:  # at most the last sequence of a batch is not full
        together = -(-work.batch * work.tokens // passes.packing) * passes.packing
        learnt = min(together, work.batch * passes.packing) / work.batch
    training = work.rounds * work.epochs * in_turn(work) * learnt * (BOTH * weights + 2 * trained)
    scored = in_turn(replace(work, rows=tuple(passes.examples * rows for rows in scored_rows(work))))
    # Half of them in each round and once more in the closing round, the other half in the test.
    scoring = (work.rounds + 2) / 2 * scored * work.tokens * FORWARD * weights
    each = min(passes.written_rows, max(scored_rows(work), default=0))
    writing = (work.rounds + 2) * each * (work.tokens + passes.written_tokens) * FORWARD
    return float(training + scoring + writing * (weights + answering))
