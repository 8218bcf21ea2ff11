"""A sweep's room beside its figures: what was said about it, who has approved it, and a hospital's yes."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from contracts.refusal import Refusal
from enclave_jobs.base_models.model_jobs import OPEN
from enclave_jobs.runs import sweeps as jobs
from enclave_jobs.runs.permissions import runs_visible_to
from federation.people import posts
from federation.people.models import Role, User
from federation.plain import LIMIT
from federation.sites.models import Site
from federation.studies import permissions as studies
from federation.studies.models import Approval, ModelJob, StudyState, Sweep
from federation.threads import permissions, sweeps
from federation.threads.models import Kind
from federation.threads.queries import declines_among
from frontend.changes import earlier_approval, fact_changes, field_changes
from frontend.manifests import short_facts
from frontend.people import people_of
from frontend.sweeps import to_sign
from frontend.views.acting import act, person

MOVING = (StudyState.APPROVING, StudyState.RUNNING)


@login_required
def thread(request: HttpRequest, sweep_id: str) -> HttpResponse:
    """Saying something about the whole sweep; what is refused stays in the box."""
    user, sweep = person(request), visible(request, sweep_id)
    place = reverse("sweep", args=[sweep.pk]) + "#thread"
    if request.method != "POST":
        return redirect(place)
    kind, text = request.POST.get("kind", Kind.MESSAGE.value), request.POST.get("text", "")
    try:
        _write(request, user, sweep, kind, text)
    except Refusal as refusal:
        context = {**sweep_room(request, sweep, text, request.POST.get("site", "")), "refused": refusal}
        return render(request, "frontend/sweeps/detail.html", context, status=422)
    messages.success(request, _confirmation(kind))
    return redirect(place)


@login_required
@require_POST
def approve(request: HttpRequest, sweep_id: str) -> HttpResponse:
    """The browser's half of an approval, for exactly the manifests that the page showed."""
    user, sweep = person(request), visible(request, sweep_id)
    shown, place = request.POST.get("root", ""), reverse("sweep", args=[sweep.pk]) + "#approvals"
    done = _("Noted. Now sign at the hospital: python -m site_agent approve")
    return act(request, lambda: sweeps.approve_in_browser(user, sweep, shown), place, done)


def visible(request: HttpRequest, sweep_id: str) -> Sweep:
    """To hospitals that were asked once also while all of it is a draft: then they see its thread alone."""
    found = permissions.sweeps_visible_to(person(request)).select_related("lead")
    return get_object_or_404(found, pk=sweep_id)


def sweep_room(request: HttpRequest, sweep: Sweep, typed: str = "", to: str = "") -> dict[str, Any]:
    """All that the page shows to this person. `typed` is what was refused, `to` whom it was for."""
    user = person(request)
    seen = studies.visible_to(user)
    points = list(sweep.points.filter(study__in=seen).select_related("study"))
    own = user.site if user.role == Role.SITE_ADMIN else None
    asked = to_sign(sweep, own) if own is not None else None
    before = earlier_approval(asked["rows"][0][0], own) if asked and own is not None else None
    runs = runs_visible_to(user).filter(study__sweep_point__sweep=sweep).order_by("created_at")
    states = [point.study.state for point in points]
    approvals = _approvals(points)
    tried = ModelJob.objects.filter(study__in=[point.study_id for point in points], state__in=OPEN)
    trying = tried.count() if StudyState.DRAFT in states and sweep.lead_id == user.pk else 0
    mine = next((row for row in approvals if own is not None and row["site"].pk == own.pk), None)
    return {
        "sweep": sweep,
        "points": points,
        "rows": jobs.compare(sweep) if points else [],
        "query": urlencode([("run", run.pk) for run in runs]),
        "is_lead": sweep.lead_id == user.pk,
        "asked": asked,
        "short": short_facts(asked["first"], own) if asked else [],
        "before": before,
        "facts": fact_changes(before, asked["rows"][0][0]) if before and asked else [],
        "fields": field_changes(before, asked["rows"][0][0]) if before and asked else [],
        "approvals": approvals,
        "mine": mine,
        "may_approve": bool(asked) and posts.may(user, "decide"),
        "drafts": states.count("draft") - trying,
        "trying": trying,
        # A page that shows another standing than this is out of date; one that nothing moves asks no more.
        "standing": " ".join([*states, str(trying), *(str(row["signed"]) for row in approvals)]),
        "moves": bool(trying) or any(state in MOVING for state in states),
        "ready": states.count("ready"),
        "finished": states.count("finished"),
        **_thread(sweep, user, own, typed, to),
    }


def _thread(sweep: Sweep, user: User, own: Site | None, typed: str, to: str) -> dict[str, Any]:
    """As a study's room has it (frontend/views/thread.py), for the same template."""
    said = list(permissions.of_sweep_visible_to(user, sweep))
    for message in said:
        message.erasable = permissions.can_erase(user, message)  # type: ignore[attr-defined]
    found = sweeps.asked(sweep, own) if own is not None else []
    declines = [row for row in declines_among(found) if own is not None and row.site_id == own.pk]
    to_all = Site.objects.filter(pk__in=_asked_once(sweep).values("site_id")).order_by("name")
    hospitals = list(to_all) if sweep.lead_id == user.pk else []
    decides = own is not None and permissions.decides(user)
    signed = set(
        Approval.objects.filter(study__in=found, site=own, signature__isnull=False).values_list(
            "study_id", flat=True
        )
    )
    open_ = {study.pk for study in found} - signed - {row.study_id for row in declines}
    return {
        "thread": said,
        "thread_limit": LIMIT,
        "typed": typed,
        "speaks": own is not None or bool(hospitals),
        "hospital": own,
        "thread_sites": hospitals,
        "chosen_site": to,
        "abouts": [],
        "may_wish": decides and bool(found),
        "wishes_draft": True,
        "may_decline": decides and bool(open_),
        "decides": decides,
        "declines": declines[:1],
        "root": sweeps.root_of(found),
    }


def _asked_once(sweep: Sweep) -> Any:
    return Approval.objects.filter(study__sweep_point__sweep=sweep)


def _approvals(points: list[Any]) -> list[dict[str, Any]]:
    """By hospital: of how many studies in force it has signed, who said yes in the browser, whom it waits
    for, and how many it declines."""
    hashes = {point.study.manifest_hash for point in points if point.study.manifest_hash}
    rows = Approval.objects.filter(study__in=[point.study_id for point in points], manifest_hash__in=hashes)
    of_site: dict[str, list[Approval]] = {}
    for row in rows.select_related("site", "browser_by").order_by("site__name", "study_id"):
        of_site.setdefault(row.site_id, []).append(row)
    declined: dict[str, int] = {}
    for message in declines_among([point.study for point in points]):
        declined[message.site_id] = declined.get(message.site_id, 0) + 1
    people = people_of(list(of_site))
    return [
        {
            "site": given[0].site,
            "asked": len(given),
            "signed": sum(row.signature is not None for row in given),
            "yes": next((row for row in given if row.browser_at is not None), None),
            "declined": declined.get(site, 0),
            "people": people.get(site, ""),
        }
        for site, given in of_site.items()
    ]


def _write(request: HttpRequest, user: User, sweep: Sweep, kind: str, text: str) -> None:
    if user.role == Role.SITE_ADMIN and user.site is not None:
        sweeps.write(user, sweep, user.site, kind, text, request.POST.get("manifest_hash", ""))
        return
    site = Site.objects.filter(pk=request.POST.get("site", "")).first()
    if site is None:
        raise Refusal("thread.not_asked")
    sweeps.answer(user, sweep, site, text)


def _confirmation(kind: str) -> str:
    return {
        Kind.CHANGES: _("All its studies are drafts again; their lead reads what you wish for."),
        Kind.DECLINE: _("Declined. The lead is told; your hospital can still change its mind."),
        Kind.RECONSIDER: _("The decline is taken back. To take part, sign at the hospital."),
    }.get(Kind(kind), _("Sent."))
