"""Hospitals: the list, one hospital's page, its enrolment command, and its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from contracts.refusal import Refusal
from federation.datasets import permissions as dataset_permissions
from federation.people import permissions as people_permissions
from federation.people import services as people_services
from federation.people.models import Role, User
from federation.sites import maintenance, permissions, queries, services
from federation.sites.models import Site, SiteState
from frontend.forms.people import InviteSiteForm
from frontend.views.acting import act, form_page, person

MOVES: dict[str, Callable[[User, Site, str], None]] = {
    "suspend": services.suspend,
    "resume": services.resume,
    "revoke": services.revoke,
}


@login_required
def site_list(request: HttpRequest) -> HttpResponse:
    """All sites that this person may see."""
    user = person(request)
    return render(
        request,
        "frontend/sites/list.html",
        {
            "sites": permissions.visible_to(user),
            "can_invite": people_permissions.can_invite(user, Role.SITE_ADMIN),
        },
    )


@login_required
def invite(request: HttpRequest) -> HttpResponse:
    """Invite a hospital by its admin's e-mail address."""
    user = person(request)
    if not people_permissions.can_invite(user, Role.SITE_ADMIN):
        raise PermissionDenied

    def send(data: dict[str, Any]) -> Any:
        people_services.invite(user, data["email"], Role.SITE_ADMIN)
        messages.success(request, _("The invitation is on its way to %(email)s.") % data)
        return lambda: redirect("sites")

    return form_page(
        request,
        InviteSiteForm,
        send,
        title=_("Invite a hospital"),
        intro=_(
            "Its admin gets a link by e-mail, names the hospital, and connects its agent with one command."
        ),
        submit=_("Send the invitation"),
        back=reverse("sites"),
    )


@login_required
def detail(request: HttpRequest, site_id: str) -> HttpResponse:
    """One hospital: state, enrolment, datasets, history."""
    return _page(request, visible_site(request, site_id))


@login_required
def status(request: HttpRequest, site_id: str) -> HttpResponse:
    """The part of the page that renews itself."""
    site = visible_site(request, site_id)
    return render(request, "frontend/sites/status.html", _standing(person(request), site))


@login_required
@require_POST
def enrolment(request: HttpRequest, site_id: str) -> HttpResponse:
    """Make a fresh command and show it, this once: its token is kept as a hash only, in no session."""
    site = visible_site(request, site_id)
    try:
        command = services.enrolment_command(person(request), site)
    except Refusal as refusal:
        return _page(request, site, refused=refusal, status=409)
    return _page(request, site, command=command)


@login_required
@require_POST
def approval_key(request: HttpRequest, site_id: str) -> HttpResponse:
    """The command by which the hospital gives itself another approval key, shown as `enrolment` does."""
    site = visible_site(request, site_id)
    try:
        command = services.replacement_command(person(request), site)
    except Refusal as refusal:
        return _page(request, site, refused=refusal, status=409)
    return _page(request, site, replacement=command)


@login_required
@require_POST
def transition(request: HttpRequest, site_id: str, move: str) -> HttpResponse:
    """Suspend, resume or revoke; revoking wants the hospital's name typed."""
    site = visible_site(request, site_id)
    if move not in MOVES:
        raise Http404
    if move == "revoke" and request.POST.get("confirm") != str(site):
        messages.error(request, _("Type the hospital's name to confirm; nothing was changed."))
        return redirect("site", site.id)
    return act(
        request,
        lambda: MOVES[move](person(request), site, _("in the browser")),
        reverse("site", args=[site.id]),
        _("Done."),
    )


def visible_site(request: HttpRequest, site_id: str) -> Site:
    """The site, if this person may see it; else 404."""
    sites = permissions.visible_to(person(request)).select_related("instance")
    return get_object_or_404(sites, pk=site_id)


def _page(
    request: HttpRequest,
    site: Site,
    command: str = "",
    replacement: str = "",
    refused: Refusal | None = None,
    status: int = 200,
) -> HttpResponse:
    user = person(request)
    return render(
        request,
        "frontend/sites/detail.html",
        {
            **_standing(user, site),
            "command": command,
            "replacement": replacement,
            "refused": refused,
            "can_enrol": site.state == SiteState.INVITED and permissions.can_enrol(user, site),
            "can_replace": site.state == SiteState.ACTIVE and permissions.can_enrol(user, site),
            "datasets": dataset_permissions.visible_to(user).filter(site=site).select_related("site"),
            "events": queries.timeline(site),
            "actions": _actions(user, site),
        },
        status=status,
    )


def _standing(user: User, site: Site) -> dict[str, Any]:
    instance = queries.instance_of(site)
    return {
        "site": site,
        "instance": instance,
        "second_machine": queries.has_second_machine(instance),
        "failing": sum(check.get("outcome") == "fail" for check in site.checks),
        "can_see_checks": permissions.can_see_checks(user, site),
        "resting_until": maintenance.open_until(site),
    }


def _actions(user: User, site: Site) -> list[dict[str, Any]]:
    """What this person can do to the site now, as the page offers it."""
    offers: list[dict[str, Any]] = [
        {
            "name": "suspend",
            "from": {SiteState.ACTIVE},
            "to": SiteState.SUSPENDED,
            "label": _("Suspend"),
            "style": "",
            "text": _("Suspending stops the agent for now. Running studies go on without it."),
        },
        {
            "name": "resume",
            "from": {SiteState.SUSPENDED},
            "to": SiteState.ACTIVE,
            "label": _("Resume"),
            "style": "primary",
            "text": _("The agent may work again."),
        },
        {
            "name": "revoke",
            "from": set(SiteState) - {SiteState.REVOKED},
            "to": SiteState.REVOKED,
            "label": _("Revoke for good"),
            "style": "danger",
            "confirm": True,
            "text": _("Revoking cannot be undone: the agent's key is refused for ever."),
        },
    ]
    return [
        offer
        for offer in offers
        if site.state in offer["from"] and permissions.can_govern(user, site, offer["to"])
    ]
