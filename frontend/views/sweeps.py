"""Sweeps of Method 2's ratios: make one, have its points approved and launched, and read what came of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from contracts.refusal import Refusal
from enclave_jobs.runs import sweeps
from error_catalogue import explain
from federation.people.models import User
from federation.studies import permissions
from federation.studies.models import Sweep
from frontend.forms.sweeps import SweepForm
from frontend.views.acting import form_page, person
from frontend.views.sweep_thread import sweep_room, visible


@login_required
def sweep_list(request: HttpRequest) -> HttpResponse:
    """All sweeps that this person may see."""
    found = permissions.sweeps_visible_to(person(request)).select_related("lead").prefetch_related("points")
    return render(request, "frontend/sweeps/list.html", {"sweeps": found})


@login_required
def new(request: HttpRequest, study_id: str) -> HttpResponse:
    """Make a sweep of a study; the study itself stays as it is."""
    user = person(request)
    study = get_object_or_404(permissions.visible_to(user), pk=study_id)
    if not permissions.can_edit(user, study):
        raise PermissionDenied

    def create(data: dict[str, Any]) -> Callable[[], HttpResponse]:
        form = SweepForm(request.POST)
        form.is_valid()
        made = sweeps.create(user, study, form.axes(), data["name"], form.allowed())
        return lambda: redirect("sweep", made.pk)

    return form_page(
        request,
        SweepForm,
        create,
        template="frontend/sweeps/new.html",
        title=_("Sweep “%(study)s”") % {"study": study.name},
        study=study,
        limit=sweeps.MAX_POINTS,
    )


@login_required
def detail(request: HttpRequest, sweep_id: str) -> HttpResponse:
    """What is asked and said about it, its points, how far they are, and what came of them. To its own
    script, which says what it shows, only whether it is to load the page again."""
    shown = sweep_room(request, visible(request, sweep_id))
    if request.headers.get("HX-Request") == "true":
        changed = request.GET.get("standing") != shown["standing"]
        return HttpResponse(status=204, headers={"HX-Refresh": "true"} if changed else {})
    return render(request, "frontend/sweeps/detail.html", shown)


@login_required
@require_POST
def freeze(request: HttpRequest, sweep_id: str) -> HttpResponse:
    """Freeze every draft of it."""
    done = _("Each point's model is tried now; then its hospitals are asked.")
    return _all(request, sweep_id, sweeps.freeze, done)


@login_required
@require_POST
def launch(request: HttpRequest, sweep_id: str) -> HttpResponse:
    """Launch every point that is signed."""
    return _all(request, sweep_id, sweeps.launch, _("Launched."))


@login_required
def as_csv(request: HttpRequest, sweep_id: str) -> HttpResponse:
    """The table for a spreadsheet."""
    sweep = _visible(request, sweep_id)
    response = HttpResponse(sweeps.as_csv(sweeps.compare(sweep)), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="fedslice-sweep-{sweep.pk}.csv"'
    return response


def _all(
    request: HttpRequest, sweep_id: str, action: Callable[[User, Sweep], dict[str, Refusal]], done: str
) -> HttpResponse:
    refused = action(person(request), _visible(request, sweep_id))
    for refusal in {refusal.code: refusal for refusal in refused.values()}.values():
        words = explain(refusal.code, refusal.facts)
        count = sum(other.code == refusal.code for other in refused.values())
        messages.error(request, f"{count} × {words.message} {words.hint} [{words.code}]")
    if not refused:
        messages.success(request, done)
    return redirect("sweep", sweep_id)


def _visible(request: HttpRequest, sweep_id: str) -> Sweep:
    visible = permissions.sweeps_visible_to(person(request)).select_related("lead")
    return get_object_or_404(visible, pk=sweep_id)
