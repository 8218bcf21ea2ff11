"""Questions whose answers are chosen: which of them the model holds the likeliest.

A row is learnt as any prompt with its response, the right choice. Of a row to evaluate on, each choice stands
behind the same question as an example of its own, and the model's choice is the one with the largest *sum* of
its tokens' log-likelihoods, its end among them: the likelihood that the model writes just that. An example
says of which row it is, and which choice, by a code in the place of its first target, which nothing
predicts: `-(FIRST + code)`, and the code in decimals is the row's number, then a digit each for the number of
choices less one, the right one and this one. Loaded by runs over datasets of the kind `prompt-choices` alone.
Runs inside the enclave; examples are made by choice_rows.py.

Source: as multiple choice is scored for MMLU and MedMCQA (`acc` of EleutherAI's lm-evaluation-harness).
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from contracts.progress import Progress
from contracts.refusal import Refusal
from contracts.rows import MOST_CHOICES
from enclave.training.data import IGNORED
from enclave.training.loop import EVALUATION_BATCH, batch_logits, precision_of, predicting
from enclave.training.metrics import Scores

if TYPE_CHECKING:
    from enclave.training.material import BatchLike, Material

FIRST = 101
"""Beyond IGNORED, so that a first target is one or the other."""


class Place(NamedTuple):
    """Which choice an example is: the row's number, how many choices the row has, the right one, and this
    one."""

    row: int
    choices: int
    right: int
    this: int


def code_of(place: Place) -> int:
    """As the module's text says, without FIRST."""
    digits = (place.row * MOST_CHOICES + place.choices - 1) * MOST_CHOICES + place.right
    return digits * MOST_CHOICES + place.this


def place_of(target: int) -> Place | None:
    """None of a target that is no code."""
    if target >= IGNORED:
        return None
    rest, this = divmod(-target - FIRST, MOST_CHOICES)
    rest, right = divmod(rest, MOST_CHOICES)
    row, choices = divmod(rest, MOST_CHOICES)
    return Place(row, choices + 1, right, this)


def are_whole(places: Sequence[Place]) -> bool:
    """Whether these are whole rows, each choice once, two choices at least, one of them right."""
    found: dict[int, list[Place]] = defaultdict(list)
    for place in places:
        found[place.row].append(place)
    return all(
        sorted(place.this for place in row) == list(range(row[0].choices))
        and row[0].right < row[0].choices > 1
        and len({place[:3] for place in row}) == 1
        for row in found.values()
    )


@dataclass(frozen=True)
class _Choice:
    """What one choice came to: nats, tokens, how many of them are the likeliest, and whether the last is."""

    place: Place
    loss: float
    tokens: int
    correct: int
    ended: bool


def evaluate_choices(model: nn.Module, examples: Material, *, precision: str, progress: Any = None) -> Scores:
    """As `loop.evaluate`. All but `confusion` is of the right choices alone, as if they were any responses;
    `confusion[right][chosen]` counts rows by the choices' places, MOST_CHOICES of them. Of equals the first
    is chosen.

    Raises: `features.labels`.
    """
    rows: dict[int, list[_Choice]] = defaultdict(list)
    done, started = 0, time.monotonic()
    device = next(model.parameters()).device
    model.eval()
    with torch.inference_mode():
        for batch in examples.evaluation_batches(EVALUATION_BATCH):
            with precision_of(precision, device):
                logits = batch_logits(model, batch, device)
            for choice in _of_batch(logits, batch):
                rows[choice.place.row].append(choice)
            done += batch.rows
            if progress is not None:
                rate = done / max(time.monotonic() - started, 1e-9)
                progress(Progress("evaluating", done, len(examples), round(rate, 2)))
    if not are_whole([choice.place for row in rows.values() for choice in row]):
        raise Refusal("features.labels")
    table = [[0] * MOST_CHOICES for _ in range(MOST_CHOICES)]
    right: list[_Choice] = []
    for row in rows.values():
        row.sort(key=lambda choice: choice.place.this)
        right.append(row[row[0].place.right])
        chosen = min(row, key=lambda choice: choice.loss)
        table[chosen.place.right][chosen.place.this] += 1
    return Scores(
        rows=len(rows),
        predictions=sum(choice.tokens for choice in right),
        correct=sum(choice.correct for choice in right),
        loss_sum=sum(choice.loss for choice in right),
        confusion=tuple(map(tuple, table)),
        exact=sum(choice.correct == choice.tokens for choice in right),
        ended=sum(choice.ended for choice in right),
    )


def _of_batch(logits: Tensor, batch: BatchLike) -> Iterator[_Choice]:
    """Args: `logits` (batch, places, vocabulary) as `loop.batch_logits` gives them."""
    targets = batch.targets[:, predicting(batch) + 1].to(logits.device)
    learnt = targets != IGNORED
    flat = cross_entropy(
        logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none"
    )
    right = (logits.argmax(-1) == targets) & learnt
    last = learnt & (learnt.cumsum(1) == learnt.sum(1, keepdim=True))
    sums = (flat.view_as(targets).double().sum(1), learnt.sum(1), right.sum(1), (right & last).any(1))
    places = [place_of(code) for code in batch.targets[:, 0].tolist()]
    for place, *numbers in zip(places, *(part.tolist() for part in sums), strict=True):
        if place is None:
            raise Refusal("features.labels")
        yield _Choice(place, *numbers)
