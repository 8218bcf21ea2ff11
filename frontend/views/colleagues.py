"""The people of one hospital, what each does there, and, for its admin, another one."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from federation.people import permissions, services
from federation.people.models import Invitation, Role, User
from federation.sites import permissions as site_permissions
from frontend.forms.people import InviteColleagueForm
from frontend.views.acting import form_page, person
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
        there=User.objects.filter(site=site).order_by("-is_active", "post", "email"),
        coming=[(one, permissions.can_manage_invitation(user, one)) for one in coming],
        may_invite=may,
        can_see_checks=site_permissions.can_see_checks(user, site),
    )
