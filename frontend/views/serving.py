"""A run's model in service: its lead switches it on and off, revokes a hospital, and sees what was used."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from contracts.manifest import Manifest
from contracts.refusal import Refusal
from contracts.release_check import fingerprint
from contracts.releases import SERVE
from enclave_jobs.runs.models import Run
from enclave_jobs.runs.permissions import runs_visible_to
from enclave_jobs.serving import queries, services
from enclave_jobs.serving.models import Service, ServiceState
from federation.people import posts
from federation.people.models import Role, User
from federation.sites.models import Site
from federation.studies import permissions
from frontend.views.acting import act, person


def serving_of(run: Run, user: User) -> dict[str, Any]:
    """What the section shows. A site admin sees their own hospital's counts alone; `servable` is false where
    this run's model is never served."""
    try:
        manifest = services.require_servable(run)
    except Refusal:
        return {"servable": False, "run": run}
    service = Service.objects.filter(run=run).first()
    uses = queries.uses_of(service) if service is not None else []
    if user.role == Role.SITE_ADMIN:
        uses = [use for use in uses if use.site_id == user.site_id]
    return {
        "servable": True,
        "run": run,
        "service": service,
        "on": service is not None and service.state in (*queries.ACTIVE, ServiceState.WAITING),
        "asks": service is not None and service.state == ServiceState.WAITING,
        "uses": uses,
        "awaited": _awaited(run, service),
        **_signatures(manifest, service),
        "may_switch": permissions.can_edit(user, run.study),
        "answers": posts.may(user, "decide"),
    }


def _signatures(manifest: Manifest, service: Service | None) -> dict[str, Any]:
    """Who has signed that the model is served, and by which fingerprint the others would."""
    rows = service.signatures.all() if service is not None else []
    signed = {row.site_id: row.at for row in rows}
    receipt = service.receipt if service is not None else ""
    return {
        "needed": manifest.release.approvals,
        "signers": [{"name": site.name, "at": signed.get(site.id)} for site in manifest.sites],
        "found": queries.found(service) if service is not None else 0,
        "fingerprint": fingerprint(receipt, SERVE),
    }


def _awaited(run: Run, service: Service | None) -> str:
    """The hospitals that have not named the run's last receipt to the enclave yet, by name; empty where it
    needs none."""
    if service is None or service.state != ServiceState.STARTING:
        return ""
    jobs = run.jobs.filter(kind="share", state__in=("waiting", "leased")).select_related("site")
    return ", ".join(sorted(str(job.site) for job in jobs))


@login_required
def section(request: HttpRequest, run_id: str) -> HttpResponse:
    """The section alone, as it is now."""
    user = person(request)
    return render(request, "frontend/runs/serving.html", serving_of(_visible(user, run_id), user))


@login_required
@require_POST
def switch(request: HttpRequest, run_id: str, verb: str) -> HttpResponse:
    """`start`, `stop`, and with a `site` in the form `revoke` and `allow`."""
    user = person(request)
    run = _visible(user, run_id)

    def site() -> Site:
        return get_object_or_404(Site, pk=request.POST.get("site", ""))

    actions: dict[str, tuple[Any, str]] = {
        "start": (
            lambda: services.start(user, run),
            _("The hospitals are asked to sign."),
        ),
        "stop": (lambda: services.stop(user, run), _("The model is no longer served.")),
        "revoke": (
            lambda: services.revoke(user, run, site(), request.POST.get("why", "")),
            _("The hospital gets no more answers."),
        ),
        "allow": (lambda: services.allow(user, run, site()), _("The hospital may ask again.")),
    }
    action, done = actions.get(verb, (lambda: _refuse(), ""))
    return act(request, action, reverse("study", args=[run.study_id]) + "#serving", done)


def _refuse() -> None:
    raise Refusal("request.not_found")


def _visible(user: User, run_id: str) -> Run:
    return get_object_or_404(runs_visible_to(user).select_related("study"), pk=run_id)
