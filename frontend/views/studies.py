"""Studies: the list, the draft's form, the frozen manifest with its approvals, and the launch."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from enclave.errors import Refusal
from federation.datasets import permissions as dataset_permissions
from federation.datasets.models import Dataset
from federation.people.models import User
from federation.sites.models import SiteState
from federation.studies import permissions, queries, services
from federation.studies.models import Approval, Study, StudyState
from federation.studies.plan import read as read_plan
from frontend.forms.studies import StudyForm, initial_of
from frontend.manifests import plan_facts
from frontend.views.acting import act, person


@login_required
def study_list(request: HttpRequest) -> HttpResponse:
    """All studies that this person may see."""
    studies = permissions.visible_to(person(request)).select_related("lead")
    return render(request, "frontend/studies/list.html", {"studies": studies})


@login_required
def new(request: HttpRequest) -> HttpResponse:
    """The form of a new draft."""
    if not permissions.can_create(person(request)):
        raise PermissionDenied
    return _form(request, None)


@login_required
def edit(request: HttpRequest, study_id: str) -> HttpResponse:
    """The form of a draft that exists."""
    study = _visible(request, study_id)
    if not permissions.can_edit(person(request), study):
        raise PermissionDenied
    if study.state != StudyState.DRAFT:
        return redirect("study", study.pk)
    return _form(request, study)


def _offered(user: User) -> list[Dataset]:
    return list(
        dataset_permissions.visible_to(user)
        .filter(withdrawn_at=None, site__state=SiteState.ACTIVE)
        .order_by("site__name", "name")
    )


def _form(request: HttpRequest, study: Study | None) -> HttpResponse:
    user = person(request)
    initial: dict[str, Any] = {}
    if study is not None:
        chosen = [str(pk) for pk in study.datasets.values_list("pk", flat=True)]
        initial = initial_of(study.name, study.purpose, study.settings, chosen)
    form = StudyForm(request.POST or None, initial=initial, datasets=_offered(user))
    refused = None
    if request.method == "POST" and form.is_valid():
        try:
            content = {
                "name": form.cleaned_data["name"],
                "purpose": form.cleaned_data["purpose"],
                "plan": read_plan(form.plan()),
                "datasets": list(form.cleaned_data["datasets"]),
            }
            if study is None:
                study = services.create_study(user, **content)
            else:
                services.update_study(user, study, **content)
            return redirect("study", study.pk)
        except Refusal as refusal:
            refused = refusal
    status = 422 if request.method == "POST" else 200
    context = {"form": form, "study": study, "refused": refused}
    return render(request, "frontend/studies/form.html", context, status=status)


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
            "approvals": queries.approvals_of(study),
            "my_approval_pending": mine is not None and mine.signature is None,
            "my_browser_approval": mine is not None and mine.browser_at is not None,
            "runs": permissions.runs_visible_to(user).filter(study=study),
            "plan": plan_facts(study),
        },
    )


def _own_approval(user: User, study: Study) -> Approval | None:
    if not permissions.can_approve(user, study):
        return None
    return queries.approvals_of(study).filter(site=user.site).first()


@login_required
def approvals(request: HttpRequest, study_id: str) -> HttpResponse:
    """The list that renews itself; it reloads the page once the study has moved on."""
    study = _visible(request, study_id)
    response = render(request, "frontend/studies/approvals.html", {"approvals": queries.approvals_of(study)})
    if study.state != StudyState.APPROVING:
        response.headers["HX-Refresh"] = "true"
    return response


@login_required
@require_POST
def freeze(request: HttpRequest, study_id: str) -> HttpResponse:
    study = _visible(request, study_id)
    done = _("The study is frozen. Its hospitals are asked now.")
    return act(request, lambda: services.freeze(person(request), study), _page(study), done)


@login_required
@require_POST
def reopen(request: HttpRequest, study_id: str) -> HttpResponse:
    study = _visible(request, study_id)
    done = _("The study is a draft again; its approvals no longer count.")
    return act(request, lambda: services.reopen(person(request), study), _page(study), done)


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
        run = services.launch(person(request), study)
    except Refusal as refusal:
        reason = refusal

        def refuse() -> None:
            raise reason

        return act(request, refuse, _page(study))
    return redirect("run", run.pk)


def _visible(request: HttpRequest, study_id: str) -> Study:
    return get_object_or_404(permissions.visible_to(person(request)).select_related("lead"), pk=study_id)


def _page(study: Study) -> str:
    return reverse("study", args=[study.pk])
