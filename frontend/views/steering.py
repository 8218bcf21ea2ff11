"""The lead steers a run: pause, resume, go on with those who are here, cancel."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from enclave_jobs.runs import services as runs
from enclave_jobs.runs.permissions import runs_visible_to
from frontend.names import typed_name
from frontend.views.acting import act, person

VERBS = {
    "pause": (
        runs.pause,
        gettext_lazy("Paused: no new work is given; what hospitals have taken goes on."),
    ),
    "resume": (runs.resume, gettext_lazy("It goes on.")),
    "proceed": (runs.proceed, gettext_lazy("It goes on with those who are here.")),
    "cancel": (runs.cancel, gettext_lazy("Cancelled.")),
}


@login_required
@require_POST
def steer(request: HttpRequest, run_id: str, verb: str) -> HttpResponse:
    """Do it; cancelling wants the study's name typed."""
    run = get_object_or_404(runs_visible_to(person(request)).select_related("study"), pk=run_id)
    if verb not in VERBS:
        raise Http404
    if verb == "cancel" and not typed_name(request.POST.get("confirm", ""), run.study.name):
        messages.error(request, _("Type the study's name to confirm; nothing was changed."))
        return redirect("run", run.pk)
    action, done = VERBS[verb]
    return act(request, lambda: action(person(request), run), reverse("run", args=[run.pk]), str(done))
