"""Compare runs: a table, curves over one another, a sweep with confidence intervals, and CSV."""

from __future__ import annotations

import csv
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render

from enclave_jobs.runs.models import Run
from enclave_jobs.runs.permissions import runs_visible_to
from frontend import comparison
from frontend.side_by_side import beside
from frontend.views.acting import person
from frontend.views.runs import with_figures

MOST, OFFERED = 60, 200
WRITTEN = ("exact_match", "token_f1", "rouge_l")
"""Scores of language models' answers."""


def _chosen(request: HttpRequest) -> list[Run]:
    """The runs that are asked for and may be seen, oldest first."""
    visible = runs_visible_to(person(request)).select_related("study")
    wanted = request.GET.getlist("run")[:MOST]
    return list(visible.filter(pk__in=wanted).order_by("created_at", "pk")) if wanted else []


@login_required
def compare(request: HttpRequest) -> HttpResponse:
    """The chosen runs side by side, and the list to choose from."""
    chosen = _chosen(request)
    rows = comparison.compared(chosen)
    offered = runs_visible_to(person(request)).select_related("study")[:OFFERED]
    axes = comparison.axes(rows)
    axis = request.GET.get("axis", "")
    everything = request.GET.get("all") == "1"
    context: dict[str, Any] = {
        "rows": rows,
        "table": beside(rows, request.GET.get("base", ""), request.GET.get("part", ""), everything),
        "everything": everything,
        "differing": comparison.differing(rows),
        "groups": [group for group in comparison.groups(rows) if group.half is not None],
        "axes": axes,
        "axis": axis if axis in axes else (axes[0] if axes else ""),
        "offered": with_figures(list(offered)),
        "picked": {run.pk for run in chosen},
        "query": urlencode([("run", run.pk) for run in chosen]),
        "most": MOST,
    }
    return render(request, "frontend/compare/compare.html", context)


@login_required
def data(request: HttpRequest) -> JsonResponse:
    """What the charts draw."""
    rows = comparison.compared(_chosen(request))
    axes, axis = comparison.axes(rows), request.GET.get("axis", "")
    axis = axis if axis in axes else (axes[0] if axes else "")
    lines = {
        metric: [
            {"name": comparison.label(row, rows), "colour": index, **comparison.curve(row, metric)}
            for index, row in enumerate(rows)
        ]
        for metric in ("accuracy", "loss", *WRITTEN)
    }
    rounds = max((sum(bool(one.metrics.get("pooled")) for one in row.rounds) for row in rows), default=0)
    sweep = {
        "axis": comparison.title_of(axis) if axis else "",
        "lines": comparison.sweep(rows, axis) if axis else [],
    }
    return JsonResponse({**lines, "sweep": sweep, "rounds": rounds, "live": False})


SCORES = ("accuracy", "macro_f1", "loss", *WRITTEN)


@login_required
def as_csv(request: HttpRequest) -> HttpResponse:
    """One line a run: settings, costs, pooled scores on validation rows, and apart those on test rows."""
    rows = comparison.compared(_chosen(request))
    names = list(dict.fromkeys(name for row in rows for name in row.settings))
    response, writer = _csv("fedslice-runs.csv")
    writer.writerow(
        ["run", "study", "state", "manifest", "older_format", *names, "rounds_published",
         "trained_parameters", "optimizer_bytes", "bytes_up", "seconds", "best_round",
         *(f"validation_{name}" for name in SCORES), *(f"test_{name}" for name in SCORES)]
    )  # fmt: skip
    for row in rows:
        writer.writerow(
            [
                row.run.pk, _safe(row.run.study.name), row.run.state, row.run.manifest_hash,
                "yes" if row.older else "",
                *(row.settings.get(name, "") for name in names),
                comparison.trained_rounds(row), row.trained, row.optimizer, row.bytes_up, row.seconds,
                row.best_round,
                *(comparison.score_of(row.scores, name) for name in SCORES),
                *(comparison.score_of(row.test, name) for name in SCORES),
            ]
        )  # fmt: skip
    return response


@login_required
def rounds_csv(request: HttpRequest, run_id: str) -> HttpResponse:
    """One line a round of one run: pooled scores on validation rows (in the test round on test rows),
    contributions, bytes, times (UTC)."""
    visible = runs_visible_to(person(request))
    run = get_object_or_404(visible, pk=run_id)
    response, writer = _csv(f"fedslice-run-{run.pk}.csv")
    writer.writerow(
        ["round", "kind", "state", "opened_at", "closed_at", "hospitals", "bytes_up", "scored_rows", *SCORES]
    )
    for row in run.rounds.prefetch_related("contributions"):
        made = row.contributions.all()
        split = "test" if "test" in row.metrics else "validation"
        scores = row.metrics.get("test") or row.metrics.get("pooled", {})
        closed = row.closed_at.isoformat() if row.closed_at else ""
        writer.writerow(
            [
                row.number, row.kind, row.state, row.opened_at.isoformat(), closed,
                sum(one.state == "accepted" for one in made), sum(one.bytes or 0 for one in made),
                split if scores else "", *(comparison.score_of(scores, name) for name in SCORES),
            ]
        )  # fmt: skip
    return response


def _csv(name: str) -> tuple[HttpResponse, Any]:
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response, csv.writer(response)


def _safe(text: str) -> str:
    """A cell that a spreadsheet takes for text, also where people wrote `=…`."""
    return f"'{text}" if text[:1] in "=+-@\t\r" else text
