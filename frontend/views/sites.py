"""Hospitals: the list, one hospital's page, its enrolment command, and its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from contracts.refusal import Refusal
from federation.datasets import permissions as dataset_permissions
from federation.people import permissions as people_permissions
from federation.people import services as people_services
from federation.people.models import Role, User
from federation.sites import maintenance, permissions, queries, services
from federation.sites.models import Site, SiteState
from frontend import startup_kit
from frontend.first_steps import first_steps
from frontend.forms.finding import ListForm
from frontend.forms.people import InviteSiteForm
from frontend.names import typed_name
from frontend.paging import by_name
from frontend.views.acting import act, form_page, person

MOVES: dict[str, Callable[[User, Site, str], None]] = {
    "suspend": services.suspend,
    "resume": services.resume,
    "revoke": services.revoke,
}


@login_required
def site_list(request: HttpRequest) -> HttpResponse:
    """The sites that this person may see and asks for."""
    user, form = person(request), ListForm(request.GET, SiteState.choices)
    coming = people_permissions.invitations_visible_to(user).filter(used_at=None, site__isnull=False)
    wanted = permissions.visible_to(user)
    if not form.is_valid():
        wanted = wanted.none()
    elif text := form.cleaned_data["q"]:
        invited = coming.filter(email__icontains=text).values("site")
        wanted = wanted.filter(Q(name__icontains=text) | Q(name="", pk__in=invited))
    if form.is_valid() and form.cleaned_data["state"]:
        wanted = wanted.filter(state=form.cleaned_data["state"])
    page = by_name(request, wanted, form.asked)
    sites = page.rows
    by_site = {invitation.site_id: invitation for invitation in coming.filter(site__in=sites)}
    for site in sites:
        # A hospital without a name is whom its invitation went to.
        invitation = None if site.name else by_site.get(site.pk)
        site.invitation = invitation  # type: ignore[attr-defined]
        manages = invitation is not None and people_permissions.can_manage_invitation(user, invitation)
        site.manages = manages  # type: ignore[attr-defined]
    return render(
        request,
        "frontend/sites/list.html",
        {
            "sites": sites,
            "page": page,
            "form": form,
            "filtered": bool(form.asked),
            "now": timezone.now(),
            "can_invite": people_permissions.can_invite(user, Role.SITE_ADMIN),
        },
    )


@login_required
def invite(request: HttpRequest) -> HttpResponse:
    """Invite a hospital by its admin's e-mail address."""
    user = person(request)
    if not people_permissions.can_invite(user, Role.SITE_ADMIN):
        raise PermissionDenied

    form = InviteSiteForm(request.POST or None)

    def send(data: dict[str, Any]) -> Any:
        for at, email in enumerate(data["email"]):
            # What is refused stays in the box with what comes after it, not whom a link was sent to: each
            # invitation makes a place for a hospital.
            form.data = {**request.POST.dict(), "email": ", ".join(data["email"][at:])}
            people_services.invite(user, email, Role.SITE_ADMIN, language=data["language"])
            messages.success(request, _("The invitation is on its way to %(email)s.") % {"email": email})
        return lambda: redirect("home" if first_steps(user) else "sites")  # on to the next step

    return form_page(
        request,
        lambda _data: form,
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
    """Make a command; the page shows it as often as it is loaded, while its token is good."""
    return _command(request, site_id, services.enrolment_command, "#enrol")


@login_required
@require_POST
def approval_key(request: HttpRequest, site_id: str) -> HttpResponse:
    """The command by which the hospital gives itself another approval key, shown as `enrolment` does."""
    return _command(request, site_id, services.replacement_command, "#approval-key")


def _command(request: HttpRequest, site_id: str, make: Callable[..., str], where: str) -> HttpResponse:
    site = visible_site(request, site_id)
    try:
        make(person(request), site, fresh=request.POST.get("fresh") == "yes")
    except Refusal as refusal:
        return _page(request, site, refused=refusal, status=409)
    return redirect(reverse("site", args=[site.pk]) + where)


@login_required
@require_POST
def transition(request: HttpRequest, site_id: str, move: str) -> HttpResponse:
    """Suspend, resume or revoke; suspending wants a yes, revoking the hospital's name typed."""
    site = visible_site(request, site_id)
    if move not in MOVES:
        raise Http404
    why = " ".join(request.POST.get("why", "").split())[:300] or _("in the browser")
    if move == "suspend" and request.POST.get("sure") != "yes":
        messages.error(request, _("Say that you are sure; nothing was changed."))
        return redirect("site", site.id)
    if move == "revoke" and not typed_name(request.POST.get("confirm", ""), str(site)):
        messages.error(request, _("Type the hospital's name to confirm; nothing was changed."))
        return redirect("site", site.id)
    return act(
        request,
        lambda: MOVES[move](person(request), site, why),
        reverse("site", args=[site.id]),
        _("Done."),
    )


def visible_site(request: HttpRequest, site_id: str) -> Site:
    """The site, if this person may see it; else 404."""
    sites = permissions.visible_to(person(request)).select_related("instance")
    return get_object_or_404(sites, pk=site_id)


def _page(
    request: HttpRequest, site: Site, refused: Refusal | None = None, status: int = 200
) -> HttpResponse:
    user = person(request)
    can_enrol = site.state == SiteState.INVITED and permissions.can_enrol(user, site)
    can_replace = site.state == SiteState.ACTIVE and permissions.can_enrol(user, site)
    given = (can_enrol or can_replace) and queries.has_open_command(site)
    command = services.enrolment_command(user, site) if can_enrol and given else ""
    return render(
        request,
        "frontend/sites/detail.html",
        {
            **_standing(user, site),
            "command": command,
            "installed": startup_kit.installed(command) if command else [],
            "ways": startup_kit.ways(command) if command else [],
            "replacement": services.replacement_command(user, site) if can_replace and given else "",
            "refused": refused,
            "can_enrol": can_enrol,
            "can_replace": can_replace,
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


def _undone_by(user: User, site: Site) -> str:
    if permissions.can_enrol(user, site):
        return _("You can undo it here, and so can every other admin of this hospital. Nobody else can.")
    return _("An operator can undo it here. The hospital itself cannot.")


def _actions(user: User, site: Site) -> list[dict[str, Any]]:
    """What this person can do to the site now, as the page offers it."""
    offers: list[dict[str, Any]] = [
        {
            "name": "suspend",
            "from": {SiteState.ACTIVE},
            "to": SiteState.SUSPENDED,
            "label": _("Suspend"),
            "style": "",
            "asks": True,
            "text": _("Suspending stops the agent for now; running studies go on without it."),
            "undone": _undone_by(user, site),
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
