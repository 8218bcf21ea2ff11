"""Who may read attestation records. Raw evidence is for few: a quote's PCK certificate names the platform."""

from __future__ import annotations

from django.db.models import Q, QuerySet

from federation.attestation.models import (
    AppraisalRecord,
    LogEntry,
    LogMention,
    Reference,
    Review,
    StoredEvidence,
)
from federation.people.models import Role, User
from federation.studies import permissions as studies

WHOLE_LOG = (Role.OPERATOR, Role.AUDITOR)
PLATFORM_NAMING = ("quote", "collateral")


def log_visible_to(user: User) -> QuerySet[LogEntry]:
    """Operators and auditors read the whole log, others the entries of appraisals that they may see; a lead
    also those of their studies, a site admin those that tell of their site."""
    if user.role in WHOLE_LOG:
        return LogEntry.objects.all()
    judged = appraisals_visible_to(user).values("log_entry_id")
    if user.role == Role.SITE_ADMIN:
        own = LogMention.objects.filter(site=user.site).values("entry_id")
        return LogEntry.objects.filter(Q(index__in=own) | Q(index__in=judged))
    own_studies = studies.visible_to(user).values("pk")
    return LogEntry.objects.filter(Q(study__in=own_studies) | Q(index__in=judged))


def appraisals_visible_to(user: User) -> QuerySet[AppraisalRecord]:
    """Operators and auditors see all; others those of runs that they may see, and of their own site."""
    if user.role in WHOLE_LOG:
        return AppraisalRecord.objects.all()
    visible = Q(run__study__in=studies.with_runs_visible_to(user))
    if user.role == Role.SITE_ADMIN:
        visible = Q(site=user.site) | (visible & Q(site=None))
    return AppraisalRecord.objects.filter(visible)


def can_read_evidence(user: User, record: AppraisalRecord) -> bool:
    """Raw quotes and collateral: for auditors, and for the admin of the site whose enclave it was."""
    own = user.role == Role.SITE_ADMIN and record.site_id is not None and record.site_id == user.site_id
    return user.role == Role.AUDITOR or own


def can_download(user: User, entry: LogEntry, kept: StoredEvidence) -> bool:
    """A raw thing that an entry names: policies and manifests for whoever sees the entry, quotes and
    collateral as `can_read_evidence` says."""
    if kept.kind not in PLATFORM_NAMING:
        return log_visible_to(user).filter(pk=entry.pk).exists()
    record = AppraisalRecord.objects.filter(log_entry=entry).first()
    return user.role == Role.AUDITOR or (record is not None and can_read_evidence(user, record))


def references_visible_to(user: User) -> QuerySet[Reference]:
    """What is accepted as an enclave is no secret to anybody who takes part."""
    return Reference.objects.all()


def reviews_visible_to(user: User) -> QuerySet[Review]:
    """A review names hospitals: a site admin sees those that their own is in, others all."""
    if user.role == Role.SITE_ADMIN:
        return Review.objects.filter(sites=user.site)
    return Review.objects.all()


def can_change_references(user: User) -> bool:
    """Put forward and suspend reference values: operators."""
    return user.role == Role.OPERATOR


def can_review(user: User) -> bool:
    """Approve or reject a changed measurement: operators and auditors (federation/attestation/reviews.py)."""
    return user.role in WHOLE_LOG


def can_see_collateral(user: User) -> bool:
    """The calendar of collateral: whoever looks after it or checks it."""
    return user.role in WHOLE_LOG


def can_export(user: User) -> bool:
    """Bundles hold raw quotes: auditors only."""
    return user.role == Role.AUDITOR
