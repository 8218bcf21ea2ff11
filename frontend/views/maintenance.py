"""A hospital's maintenance windows."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from federation.sites import maintenance as windows
from federation.sites import permissions
from federation.sites.models import Site
from frontend.forms.sites import MaintenanceForm
from frontend.views.acting import act, form_page, person
from frontend.views.sites import visible_site


@login_required
def maintenance(request: HttpRequest, site_id: str) -> HttpResponse:
    """The windows, and the form for another one."""
    user, site = person(request), visible_site(request, site_id)
    may = permissions.can_plan_maintenance(user, site)
    if request.method == "POST" and not may:
        raise PermissionDenied

    def plan(data: dict[str, Any]) -> Any:
        windows.plan(user, site, data["starts"], data["ends"], weekly=data["weekly"], reason=data["reason"])
        messages.success(request, _("The window is planned. No work is offered to the hospital in it."))
        return lambda: redirect("site-maintenance", site.pk)

    return form_page(
        request,
        MaintenanceForm,
        plan,
        template="frontend/sites/maintenance.html",
        site=site,
        windows=_shown(site),
        can_plan=may,
        can_see_checks=permissions.can_see_checks(user, site),
    )


@login_required
@require_POST
def remove(request: HttpRequest, site_id: str, window_id: int) -> HttpResponse:
    """Take a window away."""
    site = visible_site(request, site_id)
    return act(
        request,
        lambda: windows.remove(person(request), site, window_id),
        reverse("site-maintenance", args=[site.pk]),
        _("The window is gone."),
    )


def _shown(site: Site) -> list[dict[str, Any]]:
    now = timezone.now()
    found = []
    for window in windows.upcoming(site):
        starts, ends = window.occurrence(now)
        found.append({"row": window, "starts": starts, "ends": ends, "open": starts <= now < ends})
    return sorted(found, key=lambda window: window["starts"])
