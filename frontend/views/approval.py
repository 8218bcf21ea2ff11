"""What a hospital is asked to approve: all of it, and how it differs from what it approved before."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render

from contracts.policy import Reference as ReferenceValue
from contracts.refusal import Refusal
from federation.attestation.models import Reference
from federation.attestation.references import measurement_of
from federation.people.models import Role
from federation.studies import permissions, queries
from federation.studies.frozen import Frozen, frozen
from frontend.changes import earlier_approval, fact_changes, field_changes
from frontend.manifests import frozen_facts, short_facts
from frontend.older import unrunnable
from frontend.views.acting import person
from frontend.views.thread import thread_of


@login_required
def approval(request: HttpRequest, study_id: str) -> HttpResponse:
    """The manifest in force, in words and in full."""
    user = person(request)
    study = get_object_or_404(permissions.visible_to(user).select_related("lead"), pk=study_id)
    if not study.manifest:
        raise Http404
    found = frozen(study)
    rows = list(queries.approvals_of(study))
    mine = next((row for row in rows if row.site_id == user.site_id), None)
    before = earlier_approval(study, mine.site) if mine else None
    context: dict[str, Any] = {
        "study": study,
        "approvals": rows,
        "mine": mine,
        "waits": mine is not None
        and mine.signature is None
        and user.role == Role.SITE_ADMIN
        and found.fault is None,
        "short": short_facts(found.manifest, user.site) if found.manifest is not None else [],
        "plan": frozen_facts(found),
        "references": _references(found),
        "before": before,
        **thread_of(study, user),
        **unrunnable(found, study, user),
        "facts": fact_changes(before, study) if before else [],
        "fields": field_changes(before, study) if before else [],
    }
    return render(request, "frontend/studies/approval.html", context)


def _measurement(value: dict[str, Any]) -> str:
    """By what name the installation's list knows a reference value; of an older version's, what it says."""
    with suppress(msgspec.ValidationError, Refusal):
        return measurement_of(msgspec.convert(value, ReferenceValue))
    return str(value.get("mrtd") or value.get("mrenclave") or value.get("mrsigner") or "")


def _references(manifest: Frozen) -> list[dict[str, Any]]:
    """Each accepted measurement with what the installation's list says of it now."""
    found = []
    for value in manifest.all_at("policy", "references"):
        measurement = _measurement(value)
        program = value.get("program")
        known = Reference.objects.filter(
            root=manifest.at("policy", "root") or "", program=program, measurement=measurement
        ).first()
        found.append({"program": program, "measurement": measurement, "row": known})
    return found
