"""The calendar of collateral: what ends when, soonest first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from federation.attestation import collateral, permissions
from federation.attestation.models import CollateralFloor, CollateralSet, PlatformKind
from frontend.views.acting import person

SOON = timedelta(days=7)


@login_required
def calendar(request: HttpRequest) -> HttpResponse:
    """Every dated part of the sets in use, the sets themselves, and the floors."""
    if not permissions.can_see_collateral(person(request)):
        raise PermissionDenied
    sets = collateral.in_use()
    days = sorted((day for row in sets for day in _days(row)), key=lambda day: day["ends"])
    kinds = {(kind.tee, kind.fmspc, kind.ca): kind for kind in PlatformKind.objects.all()}
    waiting = set(kinds) - {(row.tee, row.fmspc, row.ca) for row in sets}
    return render(
        request,
        "frontend/collateral/calendar.html",
        {
            "days": days,
            "sets": [{"row": row, "kind": kinds.get((row.tee, row.fmspc, row.ca))} for row in sets],
            "waiting": [kinds[kind] for kind in sorted(waiting)],
            "floors": CollateralFloor.objects.all(),
            "ended": sum(day["state"] == "ended" for day in days),
            "soon": sum(day["state"] == "soon" for day in days),
            "address": settings.PCCS_URL,
        },
    )


def _days(row: CollateralSet) -> list[dict[str, Any]]:
    now = timezone.now()
    days = []
    for part in row.parts:
        ends = datetime.fromtimestamp(part["end"], UTC)
        left = ends - now
        state = "ended" if left <= timedelta() else "soon" if left < SOON else "holds"
        days.append({"part": part["name"], "ends": ends, "days": left.days, "state": state, "set": row})
    return days
