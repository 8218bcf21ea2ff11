"""A sweep as one thing on the pages: one line of a list, and what a hospital's one signature would cover."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from django.db.models import F, Model, Q, QuerySet
from django.urls import reverse

from contracts.manifest import Manifest
from contracts.sweep_tree import SweepTree
from enclave_jobs.runs.models import Run
from federation.datasets.queries import training_rows
from federation.frozen import frozen
from federation.sites.models import Site
from federation.studies.models import Approval, Study, StudyState, Sweep
from manifest_summary.sweep import points, sweep_facts, terms, unlike

TO_SWEEP = "study__sweep_point__sweep"
"""From a run to the sweep that its study is a point of."""

M = TypeVar("M", bound=Model)
DELTA = 1e-5
"""Where no budget says another one: an agent takes its dataset's."""


@dataclass(frozen=True)
class StudyLine:
    """One line of a list: a study, or a sweep with its points in it. `states` are theirs, most frequent
    first."""

    study: Study
    sweep: Sweep | None
    studies: tuple[Study, ...]

    @property
    def name(self) -> str:
        return self.study.name if self.sweep is None else self.sweep.name

    @property
    def url(self) -> str:
        """Its page."""
        if self.sweep is None:
            return reverse("study", args=[self.study.pk])
        return reverse("sweep", args=[self.sweep.pk])

    @property
    def states(self) -> list[tuple[Study, int]]:
        """One study of each state, as its badge needs one, and how many are in it."""
        counted = Counter(study.state for study in self.studies)
        first = {study.state: study for study in reversed(self.studies)}
        return [(first[state], count) for state, count in counted.most_common()]


def lines(studies: Iterable[Study]) -> list[StudyLine]:
    """The studies in their order; points of one sweep stand together, where the first of them stood. Wants
    `select_related("sweep_point__sweep")`."""
    found: dict[str, list[Study]] = {}
    for study in studies:
        point = getattr(study, "sweep_point", None)
        found.setdefault(f"s{study.pk}" if point is None else point.sweep_id, []).append(study)
    return [_line(members) for members in found.values()]


def _line(members: list[Study]) -> StudyLine:
    point = getattr(members[0], "sweep_point", None)
    sweep: Sweep | None = point.sweep if point is not None and len(members) > 1 else None
    return StudyLine(members[0], sweep, tuple(members))


def one_a_sweep(rows: QuerySet[M], path: str, count: int, after: Q | None = None) -> list[M]:
    """The first `count` rows of a list of newest first (by falling `created_at`, then by primary key), of
    those of one sweep (`path` leads to it) the first alone. `after` says where the list goes on.

    Keys are read first, as many as it takes to have enough, however many points a sweep has."""
    left, seen = rows.order_by("-created_at", "pk"), set[Any]()
    if after is not None:
        before = rows.filter(~after, **{f"{path}__isnull": False}).order_by()
        left, seen = left.filter(after), set(before.values_list(path, flat=True).distinct())
    keys: list[Any] = []
    at, size = 0, 2 * count
    while len(keys) < count:
        batch = list(left.values_list("pk", path)[at : at + size])
        for pk, sweep in batch:
            if sweep not in seen:
                keys.append(pk)
            if sweep is not None:
                seen.add(sweep)
        if len(batch) < size:
            break
        at, size = at + size, 8 * size
    return list(rows.filter(pk__in=keys[:count]).order_by("-created_at", "pk")) if keys else []


def behind(row: Any) -> Q:
    """What follows this row in a list of newest first."""
    return Q(created_at__lt=row.created_at) | Q(created_at=row.created_at, pk__gt=row.pk)


def asked_of(sweep: Sweep, site: Site) -> list[Study]:
    """The points whose signature by this hospital is missing."""
    waiting = Approval.objects.filter(site=site, signature=None, study__sweep_point__sweep=sweep)
    rows = waiting.filter(study__state=StudyState.APPROVING).select_related("study")
    return [row.study for row in rows if row.manifest_hash == row.study.manifest_hash]


def to_sign(sweep: Sweep, site: Site) -> dict[str, Any] | None:
    """What the hospital's terminal shows of it, in the same words; None where less than two points wait, or
    one signature cannot cover them."""
    studies = asked_of(sweep, site)
    read = [frozen(study).manifest for study in studies]
    manifests: list[Manifest] = sorted((one for one in read if one is not None), key=lambda one: one.hash)
    if len(manifests) < 2 or len(manifests) < len(read) or unlike(manifests):
        return None
    rows = next(iter(training_rows([manifests[0].site(site.pk).dataset.id])), None)
    own = manifests[0].site(site.pk).dataset
    root = SweepTree([one.hash for one in manifests]).root
    signed = terms(manifests, rows or own.rows, root, sweep.releases, DELTA)
    table = points(manifests)
    facts = sweep_facts(signed, manifests)._asdict()
    by_hash = {study.manifest_hash: study for study in studies}
    return {
        "first": manifests[0],
        "signed": signed,
        "plan": [facts],
        "heads": table.heads,
        "rows": sorted(
            ((by_hash[one.hash], row) for one, row in zip(manifests, table.rows, strict=True)),
            key=lambda shown: shown[0].name,
        ),
    }


def with_sweeps(visible: QuerySet[Run], rows: list[Run]) -> list[Run]:
    """The rows; one that stands for several runs of a sweep has it as `sweep`, and the states of all of them,
    most frequent first, as `states`: one run of each, and how many are in it."""
    sweeps = {row: point.sweep for row in rows if (point := getattr(row.study, "sweep_point", None))}
    members: dict[str, list[Run]] = {}
    of_them = visible.filter(**{f"{TO_SWEEP}__in": set(sweeps.values())}).only("pk", "state")
    for run in of_them.annotate(sweep_id=F(TO_SWEEP)) if sweeps else ():
        members.setdefault(run.sweep_id, []).append(run)
    for row, sweep in sweeps.items():
        runs = members.get(sweep.pk, [])
        if len(runs) > 1:
            counted, first = Counter(run.state for run in runs), {run.state: run for run in runs}
            row.sweep, row.members = sweep, len(runs)  # type: ignore[attr-defined]
            row.states = [(first[state], count) for state, count in counted.most_common()]  # type: ignore[attr-defined]
    return rows
