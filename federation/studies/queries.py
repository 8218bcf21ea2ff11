"""What pages, agents and the conductor ask about studies and runs."""

from __future__ import annotations

import msgspec
from django.db.models import F, Q, QuerySet

from contracts.approvals import Approval as Given
from contracts.approvals import InSweep
from federation.frozen import frozen
from federation.sites.models import Site
from federation.studies.models import Approval, Study, StudyState, SweepPoint


def approvals_of(study: Study) -> QuerySet[Approval]:
    """One row a site for the manifest in force, in site-id order."""
    return study.approvals.filter(manifest_hash=study.manifest_hash or "-").select_related(
        "site", "browser_by"
    )


def waiting_for(study: Study) -> list[Site]:
    """The sites whose signature is missing."""
    return [approval.site for approval in approvals_of(study) if approval.signature is None]


def given_to(study: Study, manifest_hash: str) -> dict[str, Given]:
    """Site id -> its signed approval of this manifest."""
    rows = study.approvals.filter(manifest_hash=manifest_hash, signature__isnull=False)
    signed_rows = rows.values_list("site_id", "confirmed", "signature", "sweep")
    return {
        site: Given(tuple(confirmed), signature or "", msgspec.convert(sweep, InSweep | None))
        for site, confirmed, signature, sweep in signed_rows
    }


def approvals_for_agent(site: Site) -> list[Approval]:
    """The manifests in force that ask this site for its approval, or have it, newest study first. One that
    nothing can run by asks nobody: to an agent of today it would look altered."""
    states = (StudyState.APPROVING, StudyState.READY, StudyState.RUNNING)
    rows = Approval.objects.filter(site=site, study__state__in=states)
    rows = rows.select_related("study__sweep_point__sweep")
    in_force = rows.filter(manifest_hash=F("study__manifest_hash"))
    newest = in_force.order_by("-study__created_at")
    return [row for row in newest if row.signature is not None or frozen(row.study).fault is None]


def named(studies: QuerySet[Study], text: str) -> QuerySet[Study]:
    """Those with this text in their name, purpose or sweep's name, or whose manifest's hash begins so."""
    of_sweeps = SweepPoint.objects.filter(sweep__name__icontains=text).values("study")
    in_name = Q(name__icontains=text) | Q(purpose__icontains=text) | Q(pk__in=of_sweeps)
    return studies.filter(in_name | Q(manifest_hash__startswith=text.lower()))
