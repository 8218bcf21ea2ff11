"""A hospital's connection check, as its agent found it: what is red, what to do, and what to ask of whom."""

from __future__ import annotations

from typing import Any
from urllib.parse import SplitResult, urlsplit

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from federation.sites import permissions, services
from federation.sites.models import Site, SiteState
from frontend.views.acting import act, person
from frontend.views.sites import visible_site
from manifest_summary.leaving import ever

ORDER = {"fail": 0, "warn": 1, "pass": 2}


@login_required
def connection(request: HttpRequest, site_id: str) -> HttpResponse:
    """The whole page; its list renews itself."""
    site = _shown(request, site_id)
    context = {
        **_context(request, site),
        "letter": _letter(),
        "storage": settings.STORAGE_FOR_SITES,
        "connected": site.state in (SiteState.ACTIVE, SiteState.SUSPENDED),
    }
    return render(request, "frontend/sites/connection.html", context)


@login_required
def rows(request: HttpRequest, site_id: str) -> HttpResponse:
    """The list that renews itself; 204 while what is shown still holds, so that nothing moves under the
    reader's hand."""
    context = _context(request, _shown(request, site_id))
    if request.GET.get("shown") == context["version"]:
        return HttpResponse(status=204)
    return render(request, "frontend/sites/checks.html", context)


@login_required
@require_POST
def check(request: HttpRequest, site_id: str) -> HttpResponse:
    """Ask the agent to look again."""
    site = _shown(request, site_id)
    return act(
        request,
        lambda: services.want_checks(person(request), site),
        reverse("site-connection", args=[site.pk]),
        _("The agent is asked to look again; the rows change within half a minute."),
    )


def _shown(request: HttpRequest, site_id: str) -> Site:
    site = visible_site(request, site_id)
    if not permissions.can_see_checks(person(request), site):
        raise PermissionDenied
    return site


def _context(request: HttpRequest, site: Site) -> dict[str, Any]:
    checks = sorted(site.checks, key=lambda check: ORDER.get(check.get("outcome", ""), 0))
    made = site.checks_at.timestamp() if site.checks_at else 0
    return {
        "site": site,
        "checks": checks,
        "version": f"{made:.6f}-{site.check_wanted:d}-{site.state}",
        "failing": sum(check.get("outcome") == "fail" for check in checks),
        "can_check": site.state == SiteState.ACTIVE
        and permissions.can_plan_maintenance(person(request), site),
    }


def _letter() -> str:
    """What a network team has to know before the agent has said a word."""
    parts, second = urlsplit(settings.PUBLIC_URL), urlsplit(settings.STORAGE_FOR_SITES)
    known = {"host": parts.hostname or "", "port": _port(parts), "leaves": "; ".join(ever())}
    if second.hostname:
        return _with_storage() % {**known, "storage": second.hostname, "its_port": _port(second)}
    text = _(
        "Subject: outgoing HTTPS to %(host)s, port %(port)d\n\n"
        "We take part in a study with FedSlice. Its site agent, a program on one machine of ours, talks to "
        "%(host)s only. Please allow:\n\n"
        "- Direction: outgoing only. The agent accepts no connections from outside.\n"
        "- Destination: %(host)s, TCP port %(port)d, TLS 1.2 or 1.3. No other address is needed.\n"
        "- Please exempt it from TLS inspection, or send us the certificate of the proxy.\n"
        "- What goes out: %(leaves)s.\n"
        "- Uploads may have some hundred megabytes and last for minutes."
    )
    return text % known


def _with_storage() -> str:
    return _(
        "Subject: outgoing HTTPS to %(host)s, port %(port)d, and %(storage)s, port %(its_port)d\n\n"
        "We take part in a study with FedSlice. Its site agent, a program on one machine of ours, talks to "
        "%(host)s and %(storage)s only. Please allow:\n\n"
        "- Direction: outgoing only. The agent accepts no connections from outside.\n"
        "- Destination: %(host)s, TCP port %(port)d, and %(storage)s, TCP port %(its_port)d (sealed files "
        "alone go there), TLS 1.2 or 1.3. No other address is needed.\n"
        "- Please exempt both from TLS inspection, or send us the certificate of the proxy.\n"
        "- What goes out: %(leaves)s.\n"
        "- Uploads may have some hundred megabytes and last for minutes."
    )


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)
