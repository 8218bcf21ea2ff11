"""All evidence of a hospital's enclaves, newest first, with what changed from one to the next."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from federation.attestation import permissions
from federation.attestation.models import AppraisalRecord
from federation.sites import permissions as site_permissions
from frontend.paging import SIZE, keyset
from frontend.views.acting import person
from frontend.views.sites import visible_site

VERDICTS = ("accepted", "refused")


@login_required
def history(request: HttpRequest, site_id: str) -> HttpResponse:
    """One page of appraisals; `verdict` narrows them."""
    user, site = person(request), visible_site(request, site_id)
    rows = permissions.appraisals_visible_to(user).filter(site=site).select_related("run__study")
    verdict = request.GET.get("verdict", "")
    asked = {"verdict": verdict} if verdict in VERDICTS else {}
    page = keyset(request, rows.filter(**asked).defer("checks", "claims").order_by("-pk"), asked, size=SIZE)
    context = {
        "site": site,
        "page": page,
        "rows": _marked(page.rows),
        "verdict": verdict,
        "can_read_log": user.role != "site_admin",
        "can_see_checks": site_permissions.can_see_checks(user, site),
    }
    return render(request, "frontend/sites/evidence.html", context)


def _marked(rows: list[AppraisalRecord]) -> list[dict[str, object]]:
    """A measurement that differs from that of the enclave's evidence before it on this page."""
    marked: list[dict[str, object]] = []
    seen: dict[str, str] = {}
    for row in reversed(rows):
        new = seen.get(row.program, row.measurement) != row.measurement
        seen[row.program] = row.measurement
        marked.append({"row": row, "new": new})
    return marked[::-1]
