"""Studies: the list, the draft's form, the frozen manifest with its approvals, and the launch."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from contracts.refusal import Refusal
from enclave_jobs.base_models import model_jobs
from enclave_jobs.runs import services as runs
from federation.studies import permissions, queries, services
from federation.studies.models import Study, StudyState
from frontend.forms.finding import ListForm
from frontend.model_progress import progress_of
from frontend.names import typed_name
from frontend.paging import newest_first
from frontend.people import named_at
from frontend.sweeps import lines, one_a_sweep
from frontend.views.acting import act, person
from frontend.views.thread import declined_sites

NOT_RUNNING = (StudyState.DRAFT, StudyState.APPROVING, StudyState.READY)


@login_required
def study_list(request: HttpRequest) -> HttpResponse:
    """The studies that this person may see and asks for, the points of a sweep in one line."""
    visible, form = permissions.visible_to(person(request)), ListForm(request.GET, StudyState.choices)
    wanted = visible if form.is_valid() else visible.none()
    if form.is_valid() and form.cleaned_data["q"]:
        wanted = queries.named(wanted, form.cleaned_data["q"])
    if form.is_valid() and form.cleaned_data["state"]:
        wanted = wanted.filter(state=form.cleaned_data["state"])
    wanted = wanted.select_related("lead", "sweep_point__sweep")
    take = partial(one_a_sweep, wanted, "sweep_point__sweep")
    page = newest_first(request, take, form.asked)
    shown = {
        "lines": lines([*page.rows, *_other_points(visible, page.rows)]),
        "page": page,
        "form": form,
        "filtered": bool(form.asked),
    }
    return render(request, "frontend/studies/list.html", shown)


def _other_points(visible: QuerySet[Study], rows: list[Study]) -> QuerySet[Study]:
    """The other points of the sweeps of which these rows show one."""
    sweeps = {row.sweep_point.sweep_id for row in rows if getattr(row, "sweep_point", None)}
    others = visible.filter(sweep_point__sweep__in=sweeps).exclude(pk__in=[row.pk for row in rows])
    return others.select_related("lead", "sweep_point__sweep")


@login_required
def approvals(request: HttpRequest, study_id: str) -> HttpResponse:
    """The list that renews itself; it reloads the page once the study has moved on."""
    study = _visible(request, study_id)
    shown = {"approvals": named_at(queries.approvals_of(study)), "declined_sites": declined_sites(study)}
    response = render(request, "frontend/studies/approvals.html", shown)
    if study.state != StudyState.APPROVING:
        response.headers["HX-Refresh"] = "true"
    return response


@login_required
@require_POST
def freeze(request: HttpRequest, study_id: str) -> HttpResponse:
    study = _visible(request, study_id)
    done = _("The model is tried now, exactly as the study will tune it. Then the hospitals are asked.")
    return act(request, lambda: model_jobs.ask_to_freeze(person(request), study), _page(study), done)


@login_required
def check(request: HttpRequest, study_id: str) -> HttpResponse:
    """How far the trial of the model is; the page is loaded again when it has ended."""
    study = _visible(request, study_id)
    shown = trial(study)
    response = render(request, "frontend/studies/check.html", shown)
    if not shown["trying"]:
        response.headers["HX-Refresh"] = "true"
    return response


def trial(study: Study) -> dict[str, Any]:
    """The last trial of a draft's model, while it says something."""
    job = study.model_jobs.first() if study.state == StudyState.DRAFT else None
    trying = job is not None and job.state in model_jobs.OPEN
    return {"check": job, "check_progress": progress_of(job) if job else None, "trying": trying}


@login_required
@require_POST
def reopen(request: HttpRequest, study_id: str) -> HttpResponse:
    study = _visible(request, study_id)
    done = _("The study is a draft again; its approvals no longer count.")
    return act(request, lambda: services.reopen(person(request), study), _page(study), done)


@login_required
@require_POST
def cancel(request: HttpRequest, study_id: str) -> HttpResponse:
    """End a study that does not run; wants its name typed."""
    study = _visible(request, study_id)
    if not typed_name(request.POST.get("confirm", ""), study.name):
        messages.error(request, _("Type the study's name to confirm; nothing was changed."))
        return redirect(_page(study))
    done = _("The study is cancelled. Its record stays.")
    return act(request, lambda: services.cancel(person(request), study), _page(study), done)


@login_required
@require_POST
def approve(request: HttpRequest, study_id: str) -> HttpResponse:
    """The browser's half of an approval, for exactly the hash that the page showed."""
    study, shown = _visible(request, study_id), request.POST.get("manifest_hash", "")
    done = _("Noted. Now sign at the hospital: python -m site_agent approve")
    return act(
        request, lambda: services.approve_in_browser(person(request), study, shown), _page(study), done
    )


@login_required
@require_POST
def launch(request: HttpRequest, study_id: str) -> HttpResponse:
    study = _visible(request, study_id)
    try:
        run = runs.launch(person(request), study)
    except Refusal as refusal:
        reason = refusal

        def refuse() -> None:
            raise reason

        return act(request, refuse, _page(study))
    return redirect("run", run.pk)


@login_required
@require_POST
def clone(request: HttpRequest, study_id: str) -> HttpResponse:
    """A new draft with the same plan and datasets, opened at its first step."""
    study = _visible(request, study_id)
    name = _("%(study)s, again") % {"study": study.name}
    made: list[Study] = []
    response = act(
        request, lambda: made.append(services.clone_study(person(request), study, name)), _page(study)
    )
    return redirect("study-edit", made[0].pk) if made else response


def _visible(request: HttpRequest, study_id: str) -> Study:
    return get_object_or_404(permissions.visible_to(person(request)).select_related("lead"), pk=study_id)


def _page(study: Study) -> str:
    return reverse("study", args=[study.pk])
