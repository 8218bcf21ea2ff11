"""The room of a study: one page on which a hospital reads, asks, and decides, and which is the record
afterwards. Whatever is asked stands here: the study itself, its release, its serving."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec
from django.contrib.auth.decorators import login_required
from django.db.models import Count, Max, Q, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.urls import reverse

from contracts.policy import Reference as ReferenceValue
from contracts.refusal import Refusal
from enclave_jobs.runs.models import Contribution, Run
from enclave_jobs.runs.permissions import runs_visible_to
from enclave_jobs.serving.models import Use
from federation.attestation.models import Reference
from federation.attestation.references import measurement_of
from federation.frozen import Frozen, frozen
from federation.people.models import Role, User
from federation.studies import permissions, queries
from federation.studies.models import Study, StudyState
from frontend.changes import earlier_approval, fact_changes, field_changes
from frontend.manifests import explained, plan_facts, short_facts
from frontend.methods import named
from frontend.older import unreadable_plan, unrunnable
from frontend.people import named_at
from frontend.room_receipts import receipts_of
from frontend.views.acting import person
from frontend.views.receipts import sheet_of
from frontend.views.releases import release_of
from frontend.views.serving import serving_of
from frontend.views.sites import visible_site
from frontend.views.studies import NOT_RUNNING, trial
from frontend.views.thread import thread_of


def room_of(
    request: HttpRequest, study: Study, typed: str = "", about: str = "", to: str = ""
) -> dict[str, Any]:
    """All that the page shows to this person. `typed`, `about` and `to` are as in `thread_of`."""
    user = person(request)
    is_frozen = bool(study.manifest)
    found = frozen(study) if is_frozen else None
    rows = list(queries.approvals_of(study))
    own = user.site
    mine = next((row for row in rows if own is not None and row.site_id == own.pk), None)
    before = earlier_approval(study, mine.site) if mine and own is not None else None
    manifest = found.manifest if found is not None else None
    unreadable = None if is_frozen else unreadable_plan(study)
    return {
        "study": study,
        "is_lead": permissions.can_edit(user, study),
        "cancels": permissions.can_cancel(user, study) and study.state in NOT_RUNNING,
        "approvals": named_at(rows),
        "mine": mine,
        "waits": mine is not None
        and mine.signature is None
        and permissions.can_approve(user, study)
        and study.state in (StudyState.APPROVING, StudyState.READY)
        and found is not None
        and found.fault is None,
        "short": short_facts(manifest, own) if manifest is not None else [],
        "plan": explained(plan_facts(study)),
        "references": _references(found) if found is not None else [],
        "before": before,
        "facts": fact_changes(before, study) if before else [],
        "fields": field_changes(before, study) if before else [],
        **thread_of(study, user, typed, about, to),
        **(
            unrunnable(found, study, user)
            if found is not None
            else {"older": unreadable, "clonable": permissions.can_create(user) and unreadable is None}
        ),
        **trial(study),
        **_after(request, study, user),
    }


@login_required
def room(request: HttpRequest, study_id: str) -> HttpResponse:
    """One study: what is asked and of whom, what was said, what came of it."""
    user = person(request)
    study = get_object_or_404(permissions.visible_to(user).select_related("lead"), pk=study_id)
    about = request.GET.get("about", "")
    return render(request, "frontend/studies/room.html", room_of(request, study, about=about))


@login_required
def approval(request: HttpRequest, study_id: str) -> HttpResponse:
    """The address of the approval's page before there was one room."""
    get_object_or_404(permissions.visible_to(person(request)), pk=study_id)
    return redirect(reverse("study", args=[study_id]))


def _after(request: HttpRequest, study: Study, user: User) -> dict[str, Any]:
    """The run's requests, and the record of what left the hospitals."""
    runs = list(runs_visible_to(user).filter(study=study).select_related("study"))
    if not runs:
        return {"runs": []}
    run = runs[0]
    release, serving = release_of(run, user), serving_of(run, user)
    shown = {
        "release_card": render_to_string("frontend/runs/release.html", release, request),
        "release_moves": release.get("changes"),
    }
    if serving["servable"]:
        shown["serving_card"] = render_to_string("frontend/runs/serving.html", serving, request)
    record = _record(run, user)
    wanted = request.GET.get("hospital", "")
    if wanted and any(line["site_id"] == wanted for line in record):
        sheet = sheet_of(user, run, visible_site(request, wanted))
        shown["sheet"] = render_to_string("frontend/studies/sheet.html", sheet, request)
    own = user.site_id if user.role == Role.SITE_ADMIN else None
    receipts = receipts_of(runs, user)
    return {"runs": runs, "run": run, "record": record, "receipts": receipts, "own": own, **shown}


def _record(run: Run, user: User) -> list[dict[str, Any]]:
    """By hospital: rounds that counted, what left sealed, what was asked of its model. A site admin sees
    their own hospital's alone."""
    mine = Q(site=user.site) if user.role == Role.SITE_ADMIN else Q()
    done = Contribution.objects.filter(mine, round__run=run)
    totals = done.values("site_id", "site__name").annotate(
        rounds=Count("pk", filter=Q(state="accepted")), sent=Sum("bytes"), largest=Max("bytes")
    )
    uses = {use.site_id: use for use in Use.objects.filter(mine, service__run=run)}
    once = named(frozen(run).at("method")).sends_once
    return [
        {
            "site_id": row["site_id"],
            "name": row["site__name"],
            "rounds": row["rounds"],
            "sent": row["largest"] if once else row["sent"],
            "use": uses.get(row["site_id"]),
        }
        for row in totals.order_by("site__name")
    ]


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
