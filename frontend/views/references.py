"""Reference values: which enclaves are accepted, since when and on whose word; and the review of a change."""

from __future__ import annotations

from typing import Any

import msgspec
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from contracts.refusal import Refusal
from federation.attestation import permissions, references, reviews
from federation.attestation.models import Reference, Review, ReviewState, Root
from federation.sites import permissions as site_permissions
from federation.studies import permissions as study_permissions
from frontend.forms.references import ReferenceForm
from frontend.views.acting import act, form_page, person

WORDS = {"approve": True, "reject": False}


@login_required
def reference_list(request: HttpRequest) -> HttpResponse:
    """All values that ever counted, those in force first, and the reviews that are open."""
    user = person(request)
    rows = list(permissions.references_visible_to(user).order_by("suspended_at", "program", "-id"))
    now = timezone.now()
    visible = permissions.reviews_visible_to(user)
    return render(
        request,
        "frontend/references/list.html",
        {
            "in_force": [row for row in rows if not row.suspended_at and row.valid_from <= now],
            "coming": [row for row in rows if not row.suspended_at and row.valid_from > now],
            "suspended": [row for row in rows if row.suspended_at],
            "reviews": visible.filter(state=ReviewState.OPEN),
            "closed": visible.exclude(state=ReviewState.OPEN)[:20],
            "can_change": permissions.can_change_references(user),
        },
    )


@login_required
def new(request: HttpRequest) -> HttpResponse:
    """Put a value forward: the first of a program counts at once, a change goes into review."""
    user = person(request)
    if not permissions.can_change_references(user):
        raise PermissionDenied

    def offer(data: dict[str, Any]) -> Any:
        form = ReferenceForm(request.POST)
        form.is_valid()
        about = {"root": Root(data["root"]), "reason": data["reason"], "source_commit": data["source_commit"]}
        try:
            references.add(user, form.value(), **about)
        except Refusal as refusal:
            if refusal.code != "reference.needs_review":
                raise
            opened = reviews.propose(user, form.value(), **about)
            return lambda: redirect("review", opened.pk)
        messages.success(request, _("It is in force, as the first value of its program."))
        return lambda: redirect("references")

    return form_page(
        request,
        ReferenceForm,
        offer,
        title=_("Put forward a reference value"),
        intro=_(
            "The first value of a program counts at once. Every later one is a change: two people review it,"
            " at least one of them an auditor."
        ),
        submit=_("Put forward"),
        back=reverse("references"),
    )


@login_required
@require_POST
def suspend(request: HttpRequest, reference_id: int) -> HttpResponse:
    """Stop the use of a value at the next release of keys or parameters."""
    user = person(request)
    if not permissions.can_change_references(user):
        raise PermissionDenied
    row = get_object_or_404(Reference, pk=reference_id)
    why = request.POST.get("why", "").strip()
    if not why:
        messages.error(request, _("Say why; nothing was changed."))
        return redirect("references")
    return act(request, lambda: references.suspend(user, row, why), reverse("references"), _("Suspended."))


@login_required
def review(request: HttpRequest, review_id: int) -> HttpResponse:
    """Old and new side by side, whom it touches, and who has said what."""
    user = person(request)
    found = get_object_or_404(permissions.reviews_visible_to(user), pk=review_id)
    old = Reference.objects.filter(
        root=found.root, program=found.program, measurement__in=found.replaced
    ).order_by("measurement", "-id")
    votes = list(found.votes.all())
    seen_sites = site_permissions.visible_to(user).filter(pk__in=found.sites.values("pk"))
    own_studies = set(study_permissions.visible_to(user).values_list("pk", flat=True))
    return render(
        request,
        "frontend/references/review.html",
        {
            "review": found,
            "lines": _side_by_side(found, list(old)),
            "old": old,
            "votes": votes,
            "missing": max(0, reviews.VOTES - len(votes)),
            "sites": seen_sites,
            "studies": [study for study in reviews.touched_studies(found) if study.pk in own_studies],
            "can_vote": found.state == ReviewState.OPEN
            and permissions.can_review(user)
            and not any(vote.user_id == user.pk for vote in votes),
        },
    )


@login_required
@require_POST
def vote(request: HttpRequest, review_id: int, word: str) -> HttpResponse:
    """Approve or reject."""
    user = person(request)
    if word not in WORDS:
        raise Http404
    if not permissions.can_review(user):
        raise PermissionDenied
    found = get_object_or_404(Review, pk=review_id)
    return act(
        request,
        lambda: reviews.vote(user, found, approves=WORDS[word], note=request.POST.get("note", "")),
        reverse("review", args=[review_id]),
        _("Your word is in the log."),
    )


def _side_by_side(found: Review, old: list[Reference]) -> list[dict[str, Any]]:
    """Each field of the identity: the values in force when the review was opened, and the new one."""
    new_values = _flat(found.values)
    before = [_flat(row.values) for row in old]
    names = dict.fromkeys([*new_values, *(name for values in before for name in values)])
    return [
        {
            "name": name,
            "old": list(dict.fromkeys(values.get(name, "–") for values in before)),
            "new": new_values.get(name, "–"),
            "differs": any(values.get(name) != new_values.get(name) for values in before) or not before,
        }
        for name in names
        if name not in ("type", "program")
    ]


def _flat(values: dict[str, Any]) -> dict[str, str]:
    plain = msgspec.to_builtins(values)
    flat: dict[str, str] = {}
    for name, value in plain.items():
        if isinstance(value, list):
            flat |= {f"{name}[{n}]": str(one) for n, one in enumerate(value)}
        elif value is not None:
            flat[name] = str(value)
    return flat
