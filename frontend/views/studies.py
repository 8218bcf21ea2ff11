"""Studies: the list, the draft's form, the frozen manifest with its approvals, and the launch."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from contracts.refusal import Refusal
from enclave_jobs import model_jobs
from enclave_jobs.runs import services as runs
from enclave_jobs.runs.permissions import runs_visible_to
from federation.people.models import User
from federation.studies import permissions, queries, services
from federation.studies.frozen import frozen
from federation.studies.models import Approval, Study, StudyState
from frontend.manifests import plan_facts, short_facts
from frontend.model_progress import progress_of
from frontend.names import typed_name
from frontend.older import unreadable_plan, unrunnable
from frontend.sweeps import lines
from frontend.views.acting import act, person
from frontend.views.thread import declined_sites, thread_of

NOT_RUNNING = (StudyState.DRAFT, StudyState.APPROVING, StudyState.READY)


@login_required
def study_list(request: HttpRequest) -> HttpResponse:
    """All studies that this person may see, the points of a sweep in one line."""
    studies = permissions.visible_to(person(request)).select_related("lead", "sweep_point__sweep")
    return render(request, "frontend/studies/list.html", {"lines": lines(studies)})


@login_required
def detail(request: HttpRequest, study_id: str) -> HttpResponse:
    """One study: what will run, who has approved it, what came of it."""
    user, study = person(request), _visible(request, study_id)
    mine = _own_approval(user, study)
    return render(
        request,
        "frontend/studies/detail.html",
        {
            "study": study,
            "is_lead": permissions.can_edit(user, study),
            "cancels": permissions.can_cancel(user, study) and study.state in NOT_RUNNING,
            "approvals": queries.approvals_of(study),
            "my_approval_pending": mine is not None and mine.signature is None,
            "my_browser_approval": mine is not None and mine.browser_at is not None,
            "runs": runs_visible_to(user).filter(study=study),
            "short": _short(study, user),
            **thread_of(study, user),
            "plan": plan_facts(study),
            **_age(study, user),
            **_trial(study),
        },
    )


def _age(study: Study, user: User) -> dict[str, Any]:
    """What `studies/older.html` says of a manifest, or of a draft, that this version cannot act by."""
    if study.manifest:
        return unrunnable(frozen(study), study, user)
    unreadable = unreadable_plan(study)
    return {"older": unreadable, "clonable": permissions.can_create(user) and unreadable is None}


def _short(study: Study, user: User) -> list[dict[str, Any]]:
    manifest = frozen(study).manifest if study.manifest else None
    return short_facts(manifest, user.site) if manifest is not None else []


def _own_approval(user: User, study: Study) -> Approval | None:
    if not permissions.can_approve(user, study):
        return None
    return queries.approvals_of(study).filter(site=user.site).first()


@login_required
def approvals(request: HttpRequest, study_id: str) -> HttpResponse:
    """The list that renews itself; it reloads the page once the study has moved on."""
    study = _visible(request, study_id)
    shown = {"approvals": queries.approvals_of(study), "declined_sites": declined_sites(study)}
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
    """How far the trial of the model is; the page is loaded anew when it has ended."""
    study = _visible(request, study_id)
    shown = _trial(study)
    response = render(request, "frontend/studies/check.html", shown)
    if not shown["trying"]:
        response.headers["HX-Refresh"] = "true"
    return response


def _trial(study: Study) -> dict[str, Any]:
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
