"""Maintenance windows: when a hospital's agent gets no new work. Every write about them is here."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from contracts.refusal import Refusal
from federation.audit.services import record
from federation.sites import permissions
from federation.sites.models import WEEK, MaintenanceWindow, Site, SiteState

LONGEST = timedelta(days=6)
MAX_WINDOWS = 20


def plan(by: Any, site: Site, starts: datetime, ends: datetime, *, weekly: bool, reason: str) -> None:
    """Add a window.

    Raises: `auth.forbidden`, `maintenance.bad_time` or `maintenance.too_many`.
    """
    _require(by, site)
    if site.state == SiteState.REVOKED:
        raise Refusal("site.wrong_state", state=site.state)
    if not starts < ends <= starts + LONGEST or ends <= timezone.now():
        raise Refusal("maintenance.bad_time", days=LONGEST.days)
    with transaction.atomic():
        Site.objects.select_for_update().get(pk=site.pk)
        if upcoming(site).count() >= MAX_WINDOWS:
            raise Refusal("maintenance.too_many", limit=MAX_WINDOWS)
        window = MaintenanceWindow.objects.create(
            site=site, starts=starts, ends=ends, weekly=weekly, reason=reason.strip()[:200], made_by=by.email
        )
        record(
            by,
            "maintenance.planned",
            f"site:{site.pk}",
            window=window.pk,
            starts=starts.isoformat(),
            ends=ends.isoformat(),
            weekly=weekly,
        )


def remove(by: Any, site: Site, window_id: int) -> None:
    """Take a window away; one that is open ends now. Again changes nothing.

    Raises: `auth.forbidden`.
    """
    _require(by, site)
    with transaction.atomic():
        gone, _ = MaintenanceWindow.objects.filter(site=site, pk=window_id).delete()
        if gone:
            record(by, "maintenance.removed", f"site:{site.pk}", window=window_id)


def upcoming(site: Site) -> Any:
    """The site's windows that are open or still to come, as a query set."""
    return site.maintenance.filter(Q(weekly=True) | Q(ends__gt=timezone.now()))


def open_until(site: Site | str) -> datetime | None:
    """The end of the window that is open for this site now; None where it may work."""
    pk = site if isinstance(site, str) else site.pk
    return open_windows([pk]).get(pk)


def open_windows(sites: Collection[str]) -> dict[str, datetime]:
    """Site id -> end of its open window, for those of `sites` that have one open now."""
    now = timezone.now()
    found: dict[str, datetime] = {}
    for window in MaintenanceWindow.objects.filter(site__in=sites, starts__lte=now):
        if window.is_open(now):
            end = window.occurrence(now)[1]
            found[window.site_id] = max(end, found.get(window.site_id, end))
    return found


def forget_past() -> int:
    """Drop windows that ended more than a week ago. Called by upkeep; returns how many."""
    return MaintenanceWindow.objects.filter(weekly=False, ends__lt=timezone.now() - WEEK).delete()[0]


def _require(by: Any, site: Site) -> None:
    if not permissions.can_plan_maintenance(by, site):
        raise Refusal("auth.forbidden")
