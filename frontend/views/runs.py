"""A run as it goes: rounds, hospitals, whom it waits for, curves and timeline."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import prefetch_related_objects
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from contracts.manifest import Manifest
from contracts.refusal import Refusal
from enclave_jobs.runs import costs, notes
from enclave_jobs.runs import services as runs
from enclave_jobs.runs.models import Round, RoundKind, RoundState, Run, RunState
from enclave_jobs.runs.permissions import runs_visible_to
from enclave_jobs.runs.queries import runs_named, timeline
from federation.frozen import Frozen, frozen
from federation.people.models import Role, User
from federation.studies import permissions
from federation.studies.models import BaseModel
from frontend.averaging import averaged_rounds
from frontend.comparison import sent
from frontend.forms.finding import RunListForm
from frontend.intervals import sure
from frontend.label_tables import tables_of
from frontend.lanes import lanes
from frontend.manifests import is_plaintext
from frontend.measures import burdens, newest_measures, working_times
from frontend.methods import named
from frontend.older import unrunnable
from frontend.paging import newest_first
from frontend.phases import phases
from frontend.rounds import ENDED, badge_of, title_of
from frontend.scoring import accuracy_of, by_training, pooled, scores_of, withheld
from frontend.sweeps import TO_SWEEP, one_a_sweep, with_sweeps
from frontend.timeline import sentence, waits_for
from frontend.views.acting import person

SHOWN_EVENTS = 200
SHOWN_ROUNDS = 50


def with_figures(runs: list[Run]) -> list[Run]:
    """The runs with what tables show: training rounds published, pooled accuracy on validation and on test
    rows, and whether it is a plaintext baseline."""
    prefetch_related_objects(runs, "tags")
    published = Round.objects.filter(run__in=runs, state=RoundState.PUBLISHED).order_by("number")
    published = published.defer("roster")  # long, and in no table
    by_run: dict[str, list[Round]] = {}
    for row in published:
        by_run.setdefault(row.run_id, []).append(row)
    for run in runs:
        rounds = by_run.get(run.pk, [])
        found = frozen(run)
        run.plaintext = is_plaintext(found)  # type: ignore[attr-defined]
        run.published_rounds = sum(row.kind == RoundKind.TRAIN for row in rounds)  # type: ignore[attr-defined]
        scores = scores_of(rounds)
        run.accuracy = accuracy_of(scores.validation)  # type: ignore[attr-defined]
        run.test_accuracy = accuracy_of(scores.test)  # type: ignore[attr-defined]
    return runs


@login_required
def run_list(request: HttpRequest) -> HttpResponse:
    """The runs that this person may see and asks for, those of a sweep in one line."""
    visible, form = runs_visible_to(person(request)), RunListForm(request.GET, RunState.choices)
    wanted = visible if form.is_valid() else visible.none()
    if form.is_valid() and form.cleaned_data["q"]:
        wanted = runs_named(wanted, form.cleaned_data["q"])
    if form.is_valid() and form.cleaned_data["state"]:
        wanted = wanted.filter(state=form.cleaned_data["state"])
    if form.is_valid() and form.cleaned_data["tag"]:
        wanted = wanted.filter(tags__name=form.cleaned_data["tag"].strip("#").casefold())
    take = partial(one_a_sweep, wanted.select_related(TO_SWEEP), TO_SWEEP)
    page = newest_first(request, take, form.asked)
    shown = {
        "runs": with_figures(with_sweeps(visible, page.rows)),
        "page": page,
        "form": form,
        "filtered": bool(form.asked),
    }
    return render(request, "frontend/runs/list.html", shown)


@login_required
def detail(request: HttpRequest, run_id: str) -> HttpResponse:
    """The whole page; its first part renews itself by `live`."""
    return _page(request, _visible(request, run_id))


def _page(
    request: HttpRequest, run: Run, typed: dict[str, Any] | None = None, status: int = 200
) -> HttpResponse:
    found = frozen(run)
    tags = [tag.name for tag in run.tags.all()]
    context = {
        **_live(run, found, person(request)),
        "runtime": found.at("runtime"),
        "costs": _costs(found.manifest) if found.manifest else None,
        "method": found.at("method"),
        "cancels": permissions.can_cancel(person(request), run.study) and run.state not in ENDED,
        "development": found.at("policy", "root") == "development",
        **unrunnable(found, run.study, person(request)),
        "tags": tags,
        "typed_note": run.note,
        "typed_tags": ", ".join(tags),
        **(typed or {}),
    }
    return render(request, "frontend/runs/detail.html", context, status=status)


@login_required
@require_POST
def annotate(request: HttpRequest, run_id: str) -> HttpResponse:
    """A note and tags beside the run, by its lead; what is refused comes back as it was typed."""
    run = _visible(request, run_id)
    note, tags = request.POST.get("note", ""), request.POST.get("tags", "")
    try:
        notes.annotate(person(request), run, note, tags)
    except Refusal as refusal:
        return _page(request, run, {"typed_note": note, "typed_tags": tags, "refused": refusal}, 422)
    messages.success(request, _("Kept."))
    return redirect(reverse("run", args=[run.pk]) + "#notes")


@login_required
def live(request: HttpRequest, run_id: str) -> HttpResponse:
    """The upper part that changes: figures and lanes."""
    return _renewed(request, run_id, "frontend/runs/live.html")


@login_required
def history(request: HttpRequest, run_id: str) -> HttpResponse:
    """The lower part that changes: rounds and timeline."""
    return _renewed(request, run_id, "frontend/runs/history.html")


def _renewed(request: HttpRequest, run_id: str, template: str) -> HttpResponse:
    run = _visible(request, run_id)
    # 286 tells htmx to stop asking once the run has ended.
    status = 286 if run.state in ENDED else 200
    return render(request, template, _live(run, frozen(run), person(request)), status=status)


@login_required
def curves(request: HttpRequest, run_id: str) -> JsonResponse:
    """Accuracy and loss on validation rows after each round, pooled: no enclave tells the scores of one
    hospital."""
    run = _visible(request, run_id)
    rounds = [row for row in run.rounds.all() if row.state == RoundState.PUBLISHED]
    scores = [pooled(row) for row in rounds]
    by_tokens = any("token_accuracy" in one and "accuracy" not in one for one in scores)
    keys = ("token_accuracy" if by_tokens else "accuracy", "loss")
    series = {metric: _series(rounds, key) for metric, key in zip(("accuracy", "loss"), keys, strict=True)}
    series |= {name: _series(rounds, name) for name in ("exact_match", "token_f1", "rouge_l")}
    scored = sum(bool(pooled(row)) for row in rounds)
    return JsonResponse({**series, "rounds": scored, "live": run.state not in ENDED})


def _series(rounds: list[Round], key: str) -> list[dict[str, Any]]:
    return [{"name": _("pooled"), "pooled": True, **_points(by_training(rounds), key)}]


def _points(scores: list[tuple[int, dict[str, Any]]], key: str) -> dict[str, list[Any]]:
    present = [(number, score) for number, score in scores if key in score]
    return {
        "rounds": [number for number, _score in present],
        "values": [score[key] for _number, score in present],
        "counts": [score.get("rows") for _number, score in present],
    }


def _names(found: Frozen, user: User) -> dict[str, str]:
    """Members whose costs this person may see: a site admin sees their own."""
    if user.role != Role.SITE_ADMIN:
        return found.names
    return {site: name for site, name in found.names.items() if site == user.site_id}


def _visible(request: HttpRequest, run_id: str) -> Run:
    return get_object_or_404(runs_visible_to(person(request)).select_related("study"), pk=run_id)


def _live(run: Run, found: Frozen, user: User) -> dict[str, Any]:
    rounds = list(run.rounds.prefetch_related("contributions__site"))
    total, method = found.at("training", "rounds"), named(found.at("method"))
    for row in rounds:
        row.title = title_of(row, total)  # type: ignore[attr-defined]
        row.badge = badge_of(row, run)  # type: ignore[attr-defined]
        row.contributors = sum(c.state == "accepted" for c in row.contributions.all())  # type: ignore[attr-defined]
        row.accuracy = accuracy_of(pooled(row))  # type: ignore[attr-defined]
        row.loss = pooled(row).get("loss")  # type: ignore[attr-defined]
        row.withheld = withheld(row)  # type: ignore[attr-defined]
    published = [row for row in rounds if row.state == RoundState.PUBLISHED]
    current = rounds[-1] if rounds else None
    contributions = list(current.contributions.all()) if current else []
    scores = scores_of(published)
    events = list(timeline(run).order_by("-pk")[: SHOWN_EVENTS + 1])
    names, shown_lanes = _names(found, user), lanes(run, current, contributions)
    done = [] if method.sends_once else burdens(rounds, names, working_times(run))
    costly = newest_measures(rounds, names)
    return {
        "run": run,
        "rounds": rounds[: -SHOWN_ROUNDS - 1 : -1],
        "older_rounds": max(0, len(rounds) - SHOWN_ROUNDS),
        "current": current,
        "current_title": current.title if current else "",  # type: ignore[attr-defined]
        "current_badge": current.badge if current else None,  # type: ignore[attr-defined]
        "best": scores.scored,
        "best_after": scores.best,
        "chosen": scores.best is not None and published[-1].kind != RoundKind.TRAIN,
        "published": sum(row.kind == RoundKind.TRAIN for row in published),
        "total_rounds": total,
        "receipts": sum(row.receipt is not None for row in rounds),
        "accuracy": accuracy_of(scores.validation),
        "sure": sure(scores.validation),
        "macro_f1": scores.validation.get("macro_f1"),
        "loss": scores.validation.get("loss"),
        "written": scores.validation,
        "test": {**scores.test, "accuracy": accuracy_of(scores.test)} if scores.test else None,
        "test_sure": sure(scores.test),
        "tables": tables_of(scores.test, found.at("model", "labels") or ()),
        "tested": any(row.kind == RoundKind.TEST for row in published),
        "withheld": withheld(published[-1]) if published else "",
        "bytes_up": sent(rounds, found),
        "waiting": waits_for(
            run, current if current and current.state != RoundState.PUBLISHED else None, contributions
        ),
        "lanes": shown_lanes,
        "progressing": any(lane["fraction"] is not None for lane in shown_lanes),
        "here": runs.who_is_here(run),
        "leads": permissions.can_edit(user, run.study),
        "phases": phases(run),
        "averaged": averaged_rounds(rounds),
        "plaintext": is_plaintext(found),
        "measures": costly,
        "accelerated": any(line["accelerated"] for line in costly),
        "burdens": done,
        "timed": any(line["seconds"] is not None for line in done),
        "events": [{"at": event.at, "text": sentence(event, method)} for event in events[:SHOWN_EVENTS]],
        "more_events": len(events) > SHOWN_EVENTS,
    }


def _costs(manifest: Manifest) -> costs.Costs | None:
    """What is trained, counted from the model's shape; None where that is not on record."""
    model = BaseModel.objects.filter(source=manifest.model.source, task=manifest.model.task).first()
    try:
        return costs.counted(costs.work_of(manifest), model) if model else None
    except Refusal:
        return None
