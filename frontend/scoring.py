"""Scores for pages: of validation rows, which steer a run, and apart from them of test rows, opened once; and
why a round has none, in words, as the enclave's receipt says it by a name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from enclave_jobs.runs.models import Round, RoundKind

WITHHELD: dict[str, str | Promise] = {
    "too_few_sites": _("not published: too few hospitals were scored"),
    "too_few_rows": _("not published: too few rows were scored"),
    "not_pooled": _("not published: others, or these same parameters, may have been scored before"),
    "another_set": _("not published: other hospitals than before were scored"),
}


@dataclass(frozen=True)
class RunScores:
    """`validation` are those of the `best` round that the enclave has chosen; before that, the latest.
    `scored` is the round that scored the best one so far. `test` are of the test rows, empty before they were
    opened."""

    validation: dict[str, Any] = field(default_factory=dict)
    test: dict[str, Any] = field(default_factory=dict)
    best: int | None = None
    scored: Round | None = None


def scores_of(published: Sequence[Round]) -> RunScores:
    """Of a run's published rounds, in their order."""
    if not published:
        return RunScores()
    test: dict[str, Any] = next(
        (row.metrics.get("test", {}) for row in published if row.kind == RoundKind.TEST), {}
    )
    chosen = _receipt(published[-1]).get("best") or {"round": None, "receipt": None}
    scored = next((row for row in published if _receipt(row).get("previous", "") == chosen["receipt"]), None)
    latest = next((row for row in reversed(published) if pooled(row)), None)
    shown = scored if published[-1].kind != RoundKind.TRAIN and scored else latest
    return RunScores(pooled(shown) if shown else {}, test, chosen["round"], scored)


def pooled(round: Round) -> dict[str, Any]:
    """The scores on validation rows of the parameters that the round started from."""
    found: dict[str, Any] = round.metrics.get("pooled", {})
    return found


def by_training(published: Sequence[Round]) -> list[tuple[int, dict[str, Any]]]:
    """The scores on validation rows, each after so many rounds of training, where they are told."""
    trained = [0, *(row.number for row in published)]
    return [(before, pooled(row)) for before, row in zip(trained, published, strict=False) if pooled(row)]


def accuracy_of(scores: dict[str, Any]) -> float | None:
    """Of tokens for a causal model."""
    return scores.get("accuracy", scores.get("token_accuracy"))


def _receipt(round: Round) -> dict[str, Any]:
    found: dict[str, Any] = (round.receipt or {}).get("receipt", {})
    return found


def withheld(round: Round) -> str | Promise:
    """The reason, or nothing where the scores are there or the round has no receipt yet."""
    return WITHHELD.get((_receipt(round).get("scoring") or {}).get("withheld") or "", "")
