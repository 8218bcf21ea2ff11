"""What a hospital is asked to approve: all of it, and how it differs from what it approved before."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render

from enclave.manifest import parse
from federation.attestation.models import Reference
from federation.people.models import Role
from federation.studies import permissions, queries
from frontend.changes import earlier_approval, fact_changes, field_changes
from frontend.manifests import plan_facts
from frontend.views.acting import person


@login_required
def approval(request: HttpRequest, study_id: str) -> HttpResponse:
    """The manifest in force, in words and in full."""
    user = person(request)
    study = get_object_or_404(permissions.visible_to(user).select_related("lead"), pk=study_id)
    if not study.manifest:
        raise Http404
    manifest = parse(study.manifest.encode())
    rows = list(queries.approvals_of(study))
    mine = next((row for row in rows if row.site_id == user.site_id), None)
    before = earlier_approval(study, mine.site) if mine else None
    context: dict[str, Any] = {
        "study": study,
        "manifest": manifest,
        "approvals": rows,
        "mine": mine,
        "waits": mine is not None and mine.signature is None and user.role == Role.SITE_ADMIN,
        "plan": plan_facts(study),
        "references": _references(manifest),
        "before": before,
        "facts": fact_changes(before, study) if before else [],
        "fields": field_changes(before, manifest) if before else [],
    }
    return render(request, "frontend/studies/approval.html", context)


def _references(manifest: Any) -> list[dict[str, Any]]:
    """Each accepted measurement with what the installation's list says of it now."""
    found = []
    for value in manifest.policy.references:
        measurement = getattr(value, "mrtd", None) or value.mrenclave or value.mrsigner or ""
        known = Reference.objects.filter(
            root=manifest.policy.root, program=value.program, measurement=measurement
        ).first()
        found.append({"program": value.program, "measurement": measurement, "row": known})
    return found
