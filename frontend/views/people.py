"""Accepting an invitation, the list of people, and what an operator does about them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.db.models import Exists, OuterRef, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from contracts.refusal import Refusal
from federation.audit import permissions as audit_permissions
from federation.audit import queries as audit
from federation.people import auditors, permissions, posts, second_factor, services
from federation.people.models import Authenticator, Role, User
from federation.sites.models import SiteState
from federation.sites.services import enrolment_command
from frontend import known_browsers
from frontend.activity import described
from frontend.forms.people import AcceptForm, InvitePersonForm, RoleForm
from frontend.paging import by_name
from frontend.views.acting import act, form_page, person


def accept(request: HttpRequest, token: str) -> HttpResponse:
    """The page behind an invitation's link: make the account, and name the hospital if it has no name."""
    try:
        invitation = services.find_invitation(token)
    except Refusal as refusal:
        return render(request, "frontend/people/invitation_gone.html", {"refused": refusal}, status=410)
    names_site = invitation.site is not None and not invitation.site.name

    def join(data: dict[str, Any]) -> Any:
        user = services.accept_invitation(
            token,
            password=data["password"],
            first_name=data["first_name"],
            last_name=data["last_name"],
            site_name=data.get("site_name", ""),
        )
        login(request, user)
        if user.site is not None and user.site.state == SiteState.INVITED and posts.may(user, "run_agent"):
            enrolment_command(user, user.site)  # it stands on the page that comes next, without a click
        messages.success(request, _("Welcome. Your account is ready."))
        home = redirect("site", user.site_id) if user.site_id else redirect("home")
        return lambda: known_browsers.remember(home, request, user)

    return form_page(
        request,
        AcceptForm.naming(names_site),
        join,
        title=_("Join FedSlice"),
        intro=_("You were invited as %(role)s. Your address is %(email)s.")
        % {"role": invitation.get_role_display(), "email": invitation.email},
        submit=_("Make my account"),
    )


@login_required
def people(request: HttpRequest) -> HttpResponse:
    """Accounts and unused invitations that this person may see."""
    user = _reader(request)
    return render(
        request,
        "frontend/people/list.html",
        {
            "page": by_name(
                request,
                _with_second_factor(permissions.visible_to(user).select_related("site")),
                field="email",
            ),
            "invitations": permissions.invitations_visible_to(user)
            .filter(used_at__isnull=True)
            .select_related("site"),
            "now": timezone.now(),
            "can_manage": permissions.can_manage(user),
        },
    )


@login_required
def detail(request: HttpRequest, user_id: int) -> HttpResponse:
    """One account, with what an operator can do about it and what it did lately."""
    user = _reader(request)
    shown = get_object_or_404(
        _with_second_factor(permissions.visible_to(user)).select_related("site"), pk=user_id
    )
    own = shown.pk == user.pk
    done = audit.page(audit_permissions.visible_to(user).filter(actor=shown.email), size=10)
    return render(
        request,
        "frontend/people/detail.html",
        {
            "shown": shown,
            "can_manage": permissions.can_manage(user) and not own,
            "waits_as_auditor": auditors.waits(shown),
            "can_confirm": auditors.can_confirm(user, shown),
            "form": RoleForm(initial={"role": shown.role}) if shown.site_id is None else None,
            "activity": described(done),
        },
    )


@login_required
@require_POST
def change(request: HttpRequest, user_id: int, action: str) -> HttpResponse:
    """Change the role, close or open the account, reset the second factor, confirm an auditor."""
    user = _reader(request)
    shown = get_object_or_404(permissions.visible_to(user), pk=user_id)
    actions: dict[str, Callable[[], None]] = {
        "role": lambda: services.set_role(user, shown, request.POST.get("role", "")),
        "close": lambda: services.deactivate(user, shown),
        "open": lambda: services.reactivate(user, shown),
        "reset": lambda: second_factor.reset(user, shown),
        "confirm-auditor": lambda: auditors.confirm(user, shown),
    }
    if action not in actions:
        raise Http404
    if action in ("close", "reset", "confirm-auditor") and request.POST.get("confirm") != shown.email:
        messages.error(request, _("Type the e-mail address to confirm; nothing was changed."))
        return redirect("person", shown.pk)
    return act(request, actions[action], reverse("person", args=[shown.pk]), _("Done."))


@login_required
@require_POST
def invitation(request: HttpRequest, invitation_id: int, step: str) -> HttpResponse:
    """Send an invitation again, or take it back: for whoever sent it, and for operators."""
    user = person(request)
    found = get_object_or_404(permissions.invitations_visible_to(user), pk=invitation_id)
    listed = permissions.can_list(user) and request.POST.get("back") != "sites"
    back = reverse("people" if listed else "sites")
    if request.POST.get("back") == "colleagues" and found.site_id is not None:
        back = reverse("site-people", args=[found.site_id])
    if step == "renew":
        done = _("A new link is on its way to %(email)s.") % {"email": found.email}
        return act(request, lambda: services.renew_invitation(user, found), back, done)
    if step == "withdraw":
        done = _("The link no longer works.")
        return act(request, lambda: services.withdraw_invitation(user, found), back, done)
    raise Http404


def _reader(request: HttpRequest) -> User:
    user = person(request)
    if not permissions.can_list(user):
        raise PermissionDenied
    return user


def _with_second_factor(people: QuerySet[User]) -> QuerySet[User]:
    confirmed = Authenticator.objects.filter(user=OuterRef("pk"), confirmed=True)
    return people.annotate(second_factor=Exists(confirmed))


@login_required
def invite(request: HttpRequest) -> HttpResponse:
    """Invite a lead, an auditor or another operator by e-mail."""
    user = person(request)
    if not permissions.can_invite(user, Role.LEAD):
        raise PermissionDenied

    def send(data: dict[str, Any]) -> Any:
        services.invite(user, data["email"], data["role"], language=data["language"])
        messages.success(request, _("The invitation is on its way to %(email)s.") % data)
        return lambda: redirect("people")

    return form_page(
        request,
        lambda data: InvitePersonForm(data, initial={"role": request.GET.get("role", "")}),
        send,
        title=_("Invite a person"),
        intro=_("They get a link by e-mail that works once, for seven days."),
        submit=_("Send the invitation"),
        back="/people",
    )
