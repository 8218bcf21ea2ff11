"""What pages, agents and the conductor ask about releases."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone

from contracts.releases import ReleaseApproval, counted_approvals
from enclave_jobs.releases.models import Release, ReleaseState
from enclave_jobs.runs.models import Round, RoundState, Run
from enclave_jobs.runs.queries import approvals_given
from federation.sites.models import Site


def last_round(run: Run) -> Round | None:
    """The last published round of a run: its receipt names the parameters that can be released."""
    published = Round.objects.filter(run=run, state=RoundState.PUBLISHED, receipt__isnull=False)
    return published.order_by("-number").first()


def asked_of(site: Site) -> QuerySet[Release]:
    """The releases of runs that this site is a member of, newest first."""
    runs = Run.objects.filter(study__approvals__site=site, study__approvals__signature__isnull=False)
    return Release.objects.filter(run__in=runs).select_related("run__study").order_by("-asked_at")


def release_approvals(release: Release) -> dict[str, ReleaseApproval]:
    """The approvals so far, as the enclave takes them."""
    return {
        row.site_id: ReleaseApproval(row.hpke_key or None, tuple(row.confirmed), row.signature, row.number)
        for row in release.signatures.all()
    }


def found(release: Release) -> int:
    """How many of its approvals count."""
    return counted_approvals(release_approvals(release), approvals_given(release.run))


def to_do() -> list[str]:
    """The runs whose release the conductor has something to do for."""
    return list(Release.objects.filter(state=ReleaseState.RELEASING).values_list("run_id", flat=True))


def outdated() -> QuerySet[Release]:
    """The releases whose file has been kept for long enough."""
    before = timezone.now() - timedelta(days=settings.RELEASE_DAYS)
    return Release.objects.filter(state=ReleaseState.RELEASED, removed_at=None, released_at__lt=before)
