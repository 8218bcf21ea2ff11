"""The people of one hospital, what each does there, and, for its admin, another one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from federation.people import permissions, services
from federation.people.models import Invitation, Post, Role, User
from federation.sites import permissions as site_permissions
from frontend.forms.people import InviteColleagueForm
from frontend.views.acting import act, form_page, person
from frontend.views.sites import visible_site


@login_required
def colleagues(request: HttpRequest, site_id: str) -> HttpResponse:
    """Who belongs to the hospital; a form for its admin to invite somebody."""
    user, site = person(request), visible_site(request, site_id)
    if not site_permissions.can_list_people(user, site):
        raise PermissionDenied
    may = permissions.can_invite(user, Role.SITE_ADMIN, site)
    if request.method == "POST" and not may:
        raise PermissionDenied

    def invite(data: dict[str, Any]) -> Any:
        services.invite(
            user, data["email"], Role.SITE_ADMIN, site, language=data["language"], post=data["post"]
        )
        messages.success(request, _("The invitation is on its way to %(email)s.") % data)
        return lambda: redirect("site-people", site.pk)

    coming = Invitation.objects.filter(site=site, used_at=None).select_related("invited_by")
    return form_page(
        request,
        InviteColleagueForm,
        invite,
        template="frontend/sites/people.html",
        site=site,
        there=[
            (one, may and one.pk != user.pk)
            for one in User.objects.filter(site=site).order_by("-is_active", "post", "email")
        ],
        posts=[("", _("Admin")), *Post.choices],
        coming=[(one, permissions.can_manage_invitation(user, one)) for one in coming],
        may_invite=may,
        can_see_checks=site_permissions.can_see_checks(user, site),
    )


@login_required
@require_POST
def change(request: HttpRequest, site_id: str, user_id: int, action: str) -> HttpResponse:
    """Another post for a colleague; their account closed, or opened again."""
    user, site = person(request), visible_site(request, site_id)
    if not site_permissions.can_list_people(user, site):
        raise PermissionDenied
    shown = get_object_or_404(User, pk=user_id, site=site)
    actions: dict[str, Callable[[], None]] = {
        "post": lambda: services.set_post(user, shown, request.POST.get("post", "")),
        "close": lambda: services.deactivate(user, shown),
        "open": lambda: services.reactivate(user, shown),
    }
    if action not in actions:
        raise Http404
    return act(request, actions[action], reverse("site-people", args=[site.pk]), _("Done."))
