"""Signing in, accepting an invitation, and the list of people."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import LoginView
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _

from enclave.errors import Refusal
from federation.people import permissions, services
from federation.people.models import Role
from frontend.forms.people import AcceptForm, InvitePersonForm, SignInForm
from frontend.views.acting import form_page, person


class SignIn(LoginView):
    """Django's sign-in with our form: e-mail address and password."""

    template_name = "frontend/people/sign_in.html"
    authentication_form = SignInForm
    redirect_authenticated_user = True


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
        messages.success(request, _("Welcome. Your account is ready."))
        return lambda: redirect("site", user.site_id) if user.site_id else redirect("home")

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
    """Accounts and open invitations that this person may see."""
    user = person(request)
    if user.role not in (Role.OPERATOR, Role.AUDITOR):
        raise PermissionDenied
    invitations = permissions.invitations_visible_to(user).filter(
        used_at__isnull=True, expires__gt=timezone.now()
    )
    return render(
        request,
        "frontend/people/list.html",
        {
            "people": permissions.visible_to(user).select_related("site").order_by("email"),
            "invitations": invitations,
            "can_invite": user.role == Role.OPERATOR,
        },
    )


@login_required
def invite(request: HttpRequest) -> HttpResponse:
    """Invite a lead, an auditor or another operator by e-mail."""
    user = person(request)
    if not permissions.can_invite(user, Role.LEAD):
        raise PermissionDenied

    def send(data: dict[str, Any]) -> Any:
        services.invite(user, data["email"], data["role"])
        messages.success(request, _("The invitation is on its way to %(email)s.") % data)
        return lambda: redirect("people")

    return form_page(
        request,
        InvitePersonForm,
        send,
        title=_("Invite a person"),
        intro=_("They get a link by e-mail that works once, for seven days."),
        submit=_("Send the invitation"),
        back="/people",
    )
