"""What is said about a sweep as a whole, and what it does: one wish, decline or yes for all its studies."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from contracts.refusal import Refusal
from contracts.sweep_tree import SweepTree
from federation.people import posts
from federation.people.models import Role, User
from federation.sites.models import Site
from federation.studies import services as studies
from federation.studies.models import Approval, Study, StudyState, Sweep
from federation.threads import permissions
from federation.threads.models import Kind, Message, Speaker
from federation.threads.queries import declines_among
from federation.threads.services import OPEN, say


def asked(sweep: Sweep, site: Site) -> list[Study]:
    """Its studies whose manifest in force asks this hospital and is not launched yet."""
    rows = Study.objects.filter(sweep_point__sweep=sweep, state__in=OPEN).order_by("pk")
    given = dict(Approval.objects.filter(study__in=rows, site=site).values_list("manifest_hash", "study_id"))
    return [study for study in rows if given.get(study.manifest_hash) == study.pk]


def root_of(found: list[Study]) -> str:
    """What a decision names; empty where nothing is asked."""
    return SweepTree([study.manifest_hash for study in found]).root if found else ""


def answer(by: User, sweep: Sweep, site: Site, text: str) -> Message:
    """The lead writes to one of the sweep's hospitals.

    Raises: `auth.forbidden`, `thread.not_asked`, `thread.empty` or `thread.too_long`.
    """
    _require(by.role == Role.LEAD and sweep.lead_id == by.pk)
    with transaction.atomic():
        return say(_home(sweep, site), site, by, Kind.MESSAGE, text, speaker=Speaker.LEAD, sweep=sweep)


def write(by: Any, sweep: Sweep, site: Site, kind: str, text: str, shown: str) -> Message:
    """The hospital writes. `shown` is the root of the manifests that it was shown, as `root_of` has it.

    Raises: as `services.write`.
    """
    with transaction.atomic():
        home = _home(sweep, site)
        _require(permissions.speaks_for(by, home, site))
        if kind not in Kind.values:
            raise Refusal("thread.not_asked")
        if kind == Kind.MESSAGE:
            return say(home, site, by, kind, text, sweep=sweep)
        _require(permissions.decides(by))
        found = _locked(sweep, site, shown)
        decided = _decided(found, site, kind)
        first: Message | None = None
        for study in decided:
            said = say(study, site, by, kind, text, sweep=sweep, first=first)
            first = first or said
            if kind == Kind.CHANGES:
                studies.give_up_manifest(by, study)
    assert first is not None  # `_decided` refuses where nothing is
    return first


def approve_in_browser(by: User, sweep: Sweep, shown: str) -> None:
    """A yes in the browser to each study that waits for this hospital: what counts is its one signature.

    Raises: `auth.forbidden`, or `approval.stale_manifest` where these are not the manifests in force.
    """
    _require(posts.may(by, "decide") and by.site is not None)
    assert by.site is not None
    with transaction.atomic():
        for study in _locked(sweep, by.site, shown):
            studies.approve_in_browser(by, study, study.manifest_hash)


def _decided(found: list[Study], site: Site, kind: str) -> list[Study]:
    """The studies that the decision is about.

    Raises: `thread.signed`, `thread.declined` or `thread.not_declined` where it is about none.
    """
    if kind == Kind.CHANGES:
        return found
    refusing = {row.study_id for row in declines_among(found) if row.site_id == site.pk}
    declined = [study for study in found if study.pk in refusing]
    if kind == Kind.RECONSIDER:
        if not declined:
            raise Refusal("thread.not_declined")
        return declined
    signed = Approval.objects.filter(study__in=found, site=site, signature__isnull=False)
    bound = set(signed.values_list("manifest_hash", flat=True))
    left = [study for study in found if study.manifest_hash not in bound and study not in declined]
    if not left:
        raise Refusal("thread.declined" if declined else "thread.signed")
    return left


def _locked(sweep: Sweep, site: Site, shown: str) -> list[Study]:
    """The studies that ask this hospital, if they are those that it was shown."""
    list(Study.objects.select_for_update().filter(sweep_point__sweep=sweep).order_by("pk"))
    found = asked(sweep, site)
    if not found or shown != root_of(found):
        raise Refusal("approval.stale_manifest")
    return found


def _home(sweep: Sweep, site: Site) -> Study:
    """The study among whose messages those about the whole sweep are kept: the first that has asked this
    hospital and is not over."""
    rows = Study.objects.filter(sweep_point__sweep=sweep, approvals__site=site).distinct().order_by("pk")
    found = rows.exclude(state=StudyState.CANCELLED).first() or rows.first()
    if found is None:
        raise Refusal("thread.not_asked")
    return found


def _require(allowed: bool) -> None:
    if not allowed:
        raise Refusal("auth.forbidden")
