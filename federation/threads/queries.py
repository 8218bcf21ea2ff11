"""What pages, agents and mails ask about threads."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any

from django.db.models import QuerySet

from federation.sites.models import Site
from federation.studies.models import Approval, Study, StudyState
from federation.threads.models import About, Kind, Message, Speaker
from federation.threads.subjects import SUBJECTS

DECISIONS = (Kind.DECLINE, Kind.RECONSIDER)


def declines_in_force(study: Study) -> list[Message]:
    """The declines of what is asked for now, but for those of hospitals that have changed their mind or
    signed since. As many queries for many hospitals as for one."""
    decisions = Message.objects.filter(
        study=study, kind__in=DECISIONS, manifest_hash=study.manifest_hash or "-"
    ).select_related("site")
    last = {(row.site_id, row.about): row for row in decisions}
    declines = [row for row in last.values() if row.kind == Kind.DECLINE]
    if not declines:
        return []
    signed = _signed(study)
    return [row for row in declines if signed.get((row.site_id, row.about), row.at) <= row.at]


def declines_among(studies: Collection[Study]) -> list[Message]:
    """The declines in force of these studies themselves; as many queries for many as for one."""
    hashes = {study.pk: study.manifest_hash or "-" for study in studies}
    decisions = Message.objects.filter(study__in=hashes, kind__in=DECISIONS, about=About.STUDY)
    rows = [row for row in decisions if row.manifest_hash == hashes[row.study_id]]
    last = {(row.study_id, row.site_id): row for row in rows}
    declines = [row for row in last.values() if row.kind == Kind.DECLINE]
    signed = Approval.objects.filter(
        study__in={row.study_id for row in declines}, signed_at__isnull=False
    ).values_list("study_id", "site_id", "manifest_hash", "signed_at")
    later = {(study, site): at for study, site, shown, at in signed if at and shown == hashes[study]}
    return [row for row in declines if later.get((row.study_id, row.site_id), row.at) <= row.at]


def decline_of(study: Study, site: Site, about: str = About.STUDY) -> Message | None:
    """This hospital's, if it stands."""
    return next(
        (row for row in declines_in_force(study) if (row.site_id, row.about) == (site.pk, about)), None
    )


def wished(study: Study, site: Site) -> Message | None:
    """The hospital's last wish for changes of this study itself."""
    wishes = Message.objects.filter(study=study, site=site, kind=Kind.CHANGES, about=About.STUDY)
    return wishes.order_by("-pk").first()


def unanswered(studies: QuerySet[Study], *, by: Speaker, site: Site | None = None) -> list[Message]:
    """The last messages of threads that the other side (`by`) has written, newest first; of studies that are
    not over, or of the release or serving of one that is."""
    found = Message.objects.filter(study__in=studies.exclude(state=StudyState.CANCELLED), first=None)
    if site is not None:
        found = found.filter(site=site)
    last: dict[tuple[str, str], Message] = {}
    for message in found.select_related("study", "site", "sweep"):
        last[message.sweep_id or message.study_id, message.site_id] = message
    asks = [one for one in last.values() if one.speaker == by and one.erased_at is None]
    return sorted(asks, key=lambda one: -one.pk)


def _signed(study: Study) -> dict[tuple[str, str], datetime]:
    """When each hospital has signed what."""
    approvals = Approval.objects.filter(manifest_hash=study.manifest_hash, signed_at__isnull=False)
    given: dict[str, Iterable[tuple[str, Any]]] = {
        About.STUDY: approvals.values_list("site_id", "signed_at"),
        **{about: subject.signed(study) for about, subject in SUBJECTS.items()},
    }
    return {(site, str(about)): at for about, rows in given.items() for site, at in rows}
