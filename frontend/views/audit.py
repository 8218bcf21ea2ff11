"""Who did what: the audit trail, found by person, action, thing and day."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from federation.audit import permissions, queries
from frontend.activity import described
from frontend.forms.audit import AuditFilterForm
from frontend.paging import keyset
from frontend.views.acting import person


@login_required
def audit(request: HttpRequest) -> HttpResponse:
    """One page of entries."""
    user = person(request)
    if not permissions.can_read(user):
        raise PermissionDenied
    form = AuditFilterForm(request.GET)
    rows = permissions.visible_to(user)
    asked = {name: value for name, value in request.GET.items() if name in form.fields and value}
    rows = queries.narrowed(rows, form.wanted()) if form.is_valid() else rows.none()
    page = keyset(request, rows.order_by("-pk"), asked)
    context = {"page": page, "entries": described(page.rows), "form": form, "filtered": bool(asked)}
    return render(request, "frontend/audit/list.html", context)
