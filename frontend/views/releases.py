"""A run's release: its lead asks for it, sees whom it waits for, and fetches what was exported."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from contracts.refusal import Refusal
from contracts.releases import EXPORT
from enclave_jobs.releases import services
from enclave_jobs.releases.models import Release
from enclave_jobs.runs.models import Run
from enclave_jobs.runs.permissions import runs_visible_to
from error_catalogue import explain
from federation.frozen import frozen
from federation.people import posts
from federation.people.models import User
from federation.studies import permissions
from frontend.manifests import release_facts
from frontend.names import typed_name
from frontend.views.acting import act, person


def release_of(run: Run, user: User) -> dict[str, Any]:
    """What the section shows: why nothing is released, or how far it is, and who has signed. It `changes`
    by itself while the run still trains, and from the question to the release."""
    context: dict[str, Any] = {
        "run": run,
        "may_ask": permissions.can_edit(user, run.study),
        "answers": posts.may(user, "decide"),
    }
    try:
        manifest = services.require_releasable(run)
    except Refusal as refusal:
        rule = frozen(run).at("release", "rule")
        # Where nothing may ever leave, or not yet, the page says so in a line.
        explained = explain(refusal.code, refusal.facts)
        changes = refusal.code == "release.unfinished" and run.finished_at is None
        return context | {"release_refused": explained, "release_rule": rule, "changes": changes}
    release = Release.objects.filter(run=run).first()
    signed = {row.site_id: row.at for row in release.signatures.all()} if release is not None else {}
    again = release is not None and (release.state == "failed" or release.removed_at is not None)
    return context | {
        "release": release,
        "changes": release is not None and not again,
        "release_rule": manifest.release.rule,
        "exports": manifest.release.rule == EXPORT,
        "release_facts": release_facts(manifest),
        "needed": manifest.release.approvals,
        "found": len(signed),
        "signers": [{"name": site.name, "at": signed.get(site.id)} for site in manifest.sites],
        "again": again,
        "package": ((release.statement or {}).get("released") or {}).get("package") if release else None,
    }


@login_required
def section(request: HttpRequest, run_id: str) -> HttpResponse:
    """The section alone, as it is now."""
    user = person(request)
    context = release_of(_visible(user, run_id), user)
    # 286 tells htmx to stop asking where a form is shown: what is typed would be lost.
    status = 200 if context["changes"] else 286
    return render(request, "frontend/runs/release.html", context, status=status)


@login_required
@require_POST
def ask(request: HttpRequest, run_id: str) -> HttpResponse:
    """Ask the hospitals for their signatures; wants the study's name typed."""
    user = person(request)
    run = _visible(user, run_id)
    if not typed_name(request.POST.get("confirm", ""), run.study.name):
        messages.error(request, _("Type the study's name to confirm; nothing was changed."))
        return redirect(_place(run))
    return act(request, lambda: services.ask(user, run), _place(run), _("The hospitals are asked to sign."))


@login_required
@require_POST
def download(request: HttpRequest, run_id: str) -> HttpResponseBase:
    """The exported package."""
    user = person(request)
    run = _visible(user, run_id)
    found: list[Any] = []
    answer = act(
        request,
        lambda: found.append(services.exported(user, run)),
        _place(run),
    )
    if not found:
        return answer
    _release, file = found[0]
    return FileResponse(file, as_attachment=True, filename=f"{run.pk}-adapter.zip")


def _place(run: Run) -> str:
    """Where the section stands: in the study's room."""
    return reverse("study", args=[run.study_id]) + "#release"


def _visible(user: User, run_id: str) -> Run:
    return get_object_or_404(runs_visible_to(user).select_related("study"), pk=run_id)
