"""Released adapters that a lead has brought, for studies that start from one."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _l
from django.views.decorators.http import require_http_methods, require_POST

from contracts.refusal import Refusal
from enclave_jobs.releases import starting
from enclave_jobs.runs.permissions import runs_visible_to
from federation.studies import permissions
from federation.studies.starting import offered_to
from frontend.views.acting import act, person


class PackageForm(forms.Form):
    package = forms.FileField(
        label=_l("Released package"),
        help_text=_l("The zip file as it was released, with LoRA in it; 256 MiB at most."),
    )

    def clean_package(self) -> Any:
        """What is too large is refused before it is read."""
        given = self.cleaned_data["package"]
        if given.size > starting.MAX_PACKAGE_BYTES:
            raise forms.ValidationError(_("It has more than 256 MiB."), code="package.too_large")
        return given


@login_required
@require_http_methods(["GET", "POST"])
def adapters(request: HttpRequest) -> HttpResponse:
    """What this person has brought, and the form that brings another."""
    user = person(request)
    if not permissions.can_create(user):
        raise PermissionDenied
    form = PackageForm(request.POST or None, request.FILES or None)
    refused = None
    if request.method == "POST" and form.is_valid():
        try:
            kept = starting.from_file(user, form.cleaned_data["package"])
            messages.success(request, _("A study can start from %s now.") % kept.name)
            return redirect("adapters")
        except Refusal as refusal:
            refused = refusal
    shown = {"adapters": offered_to(user), "form": form, "refused": refused}
    status = 422 if request.method == "POST" else 200
    return render(request, "frontend/studies/adapters.html", shown, status=status)


@login_required
@require_POST
def from_run(request: HttpRequest, run_id: str) -> HttpResponse:
    """Take what a run has released."""
    user = person(request)
    run = get_object_or_404(runs_visible_to(user).select_related("study"), pk=run_id)
    back = reverse("study", args=[run.study_id]) + "#release"
    done = _("A study can start from it now: choose it among the released adapters.")
    return act(request, lambda: starting.from_release(user, run), back, done)
