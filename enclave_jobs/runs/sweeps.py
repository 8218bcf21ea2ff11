"""Sweeps: a set of ratios, cuts, selections and seeds as one study each, compared with each other.

Every point is an ordinary study with a manifest of its own. A hospital approves each alone, or all of them by
one signature over the root of their tree (docs/decisions/0039). Points with the same cut and dataset have the
same features; the sites compute them once.
"""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import msgspec
from django.db import transaction

from contracts.manifest import Select
from contracts.refusal import Refusal
from enclave_jobs.base_models import model_jobs
from enclave_jobs.runs import services as runs
from enclave_jobs.runs.models import RoundKind, RoundState, Run
from federation.audit.services import record
from federation.frozen import frozen
from federation.people.models import User
from federation.studies import methods, permissions, services
from federation.studies.models import Study, StudyState, Sweep, SweepPoint
from federation.studies.plan import Plan, read

MAX_POINTS = 60
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Student's t for a two-sided 95 % interval, from two values on; 1.96 beyond the table."""


@dataclass(frozen=True)
class Axes:
    """What is varied. Empty cuts or seeds mean the study's own."""

    ratios: Sequence[float]
    cuts: Sequence[int] = ()
    selects: Sequence[Select] = ("largest",)
    seeds: Sequence[int] = ()


@dataclass(frozen=True)
class Spread:
    """A mean over seeds with half the width of its 95 % interval (0 for one value); None without a value."""

    mean: float | None
    half: float = 0.0

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        if not values:
            return cls(None)
        if len(values) == 1:
            return cls(values[0])
        t = _T95[len(values) - 2] if len(values) - 2 < len(_T95) else 1.96
        return cls(statistics.fmean(values), t * statistics.stdev(values) / math.sqrt(len(values)))


@dataclass(frozen=True)
class Row:
    """A ratio, cut and selection over its seeds. `accuracy` and `macro_f1` are shares, of validation
    rows; `step_seconds` is a training step's mean; memory is AdamW's. `finished` of `seeds` runs are
    in the figures."""

    ratio: float
    cut: int
    select: str
    seeds: int
    finished: int
    accuracy: Spread
    macro_f1: Spread
    step_seconds: Spread
    parameters: int | None
    optimizer_bytes: int | None


def create(by: User, study: Study, axes: Axes, name: str = "", releases: int = 1) -> Sweep:
    """One draft a point, cloned from `study` with its datasets. `study` itself stays as it is. Of at most so
    many `releases` the hospitals are asked to allow the release.

    Raises: `auth.forbidden`, `sweep.not_method_2`, `sweep.empty`, `sweep.too_large`, or
    `study.invalid_plan` for a value that is out of range.
    """
    if not permissions.can_edit(by, study):
        raise Refusal("auth.forbidden")
    plan = read(study.settings)
    if not methods.named(plan.method).has_ratios:
        raise Refusal("sweep.not_method_2")
    points = sorted(
        set(product(axes.ratios, axes.cuts or (plan.cut,), axes.selects, axes.seeds or (plan.seed,)))
    )
    if not points:
        raise Refusal("sweep.empty")
    if len(points) > MAX_POINTS:
        raise Refusal("sweep.too_large", points=len(points), limit=MAX_POINTS)
    datasets = list(study.datasets.all())
    with transaction.atomic():
        title = (name.strip() or study.name)[:200]
        sweep = Sweep.objects.create(name=title, lead=by, releases=min(releases, len(points)))
        for ratio, cut, select, seed in points:
            varied = _varied(plan, ratio, cut, select, seed)
            title = f"{study.name[:150]} · {ratio:g} % · k {cut} · {select} · seed {seed}"
            draft = services.create_study(
                by, name=title, purpose=study.purpose, plan=varied, datasets=datasets
            )
            SweepPoint.objects.create(
                sweep=sweep, study=draft, ratio=ratio, cut=cut, select=select, seed=seed
            )
        record(by, "sweep.created", f"sweep:{sweep.pk}", points=len(points), study=study.pk)
    return sweep


def freeze(by: User, sweep: Sweep) -> dict[str, Refusal]:
    """Ask for every draft to be tried and frozen; which points were refused at once, by study id."""
    return _each(sweep, StudyState.DRAFT, lambda study: model_jobs.ask_to_freeze(by, study))


def launch(by: User, sweep: Sweep) -> dict[str, Refusal]:
    """Launch every point that all its sites have signed; which were refused, by study id."""
    return _each(sweep, StudyState.READY, lambda study: runs.launch(by, study))


def compare(sweep: Sweep) -> list[Row]:
    """One row a ratio, cut and selection, in that order."""
    points = list(sweep.points.select_related("study"))
    runs = _finished([point.study_id for point in points])
    grouped: dict[tuple[int, str, float], list[SweepPoint]] = {}
    for point in points:
        grouped.setdefault((point.cut, point.select, point.ratio), []).append(point)
    return [_row(members, runs) for _, members in sorted(grouped.items())]


def as_csv(rows: Sequence[Row]) -> str:
    """The table for a spreadsheet."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["ratio_percent", "cut", "select", "seeds", "finished", "validation_accuracy",
         "validation_accuracy_ci95", "validation_macro_f1", "validation_macro_f1_ci95", "step_seconds",
         "step_seconds_ci95", "parameters", "optimizer_bytes"]
    )  # fmt: skip
    for row in rows:
        spreads = [
            cell
            for spread in (row.accuracy, row.macro_f1, row.step_seconds)
            for cell in (("", "") if spread.mean is None else (f"{spread.mean:.6f}", f"{spread.half:.6f}"))
        ]
        writer.writerow(
            [f"{row.ratio:g}", row.cut, row.select, row.seeds, row.finished, *spreads,
             row.parameters or "", row.optimizer_bytes or ""]
        )  # fmt: skip
    return out.getvalue()


def _varied(plan: Plan, ratio: float, cut: int, select: Select, seed: int) -> Plan:
    varied = msgspec.structs.replace(
        plan, attention_ratio=ratio, dense_ratio=ratio, cut=cut, select=select, seed=seed
    )
    return read(msgspec.to_builtins(varied))  # it is as strict as a form's


def _each(sweep: Sweep, state: str, action: Callable[[Study], Any]) -> dict[str, Refusal]:
    refused = {}
    for point in sweep.points.select_related("study").filter(study__state=state):
        try:
            action(point.study)
        except Refusal as refusal:
            refused[point.study_id] = refusal
    return refused


def _finished(studies: list[str]) -> dict[str, Run]:
    """The last finished run of each study, with its published rounds."""
    rows = Run.objects.filter(study__in=studies, state="finished").order_by("created_at")
    return {run.study_id: run for run in rows.prefetch_related("rounds")}


def _row(points: list[SweepPoint], runs: dict[str, Run]) -> Row:
    found = [runs[point.study_id] for point in points if point.study_id in runs]
    first = points[0]

    def spread(name: str) -> Spread:
        return Spread.of([run.summary[name] for run in found if name in run.summary])

    steps = [seconds for run in found if (seconds := _step_seconds(run)) is not None]
    size = found[0].summary if found else {}
    return Row(
        ratio=first.ratio,
        cut=first.cut,
        select=first.select,
        seeds=len(points),
        finished=len(found),
        accuracy=spread("accuracy"),
        macro_f1=spread("macro_f1"),
        step_seconds=Spread.of(steps),
        parameters=size.get("parameters"),
        optimizer_bytes=size.get("optimizer_bytes"),
    )


def _step_seconds(run: Run) -> float | None:
    """Seconds of a training step: of all rounds' training, by their number of batches."""
    said = frozen(run)
    batch, epochs = said.at("training", "batch_size"), said.at("training", "local_epochs")
    if not batch or not epochs:
        return None
    seconds, steps = 0.0, 0
    for round in run.rounds.all():
        training = round.metrics.get("training")
        if round.state == RoundState.PUBLISHED and round.kind == RoundKind.TRAIN and training:
            seconds += training["seconds"]
            steps += math.ceil(training["rows"] / batch) * epochs
    return seconds / steps if steps else None
