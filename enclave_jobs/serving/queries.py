"""What pages, agents and the conductor ask about serving."""

from __future__ import annotations

from django.db.models import QuerySet

from contracts.releases import ReleaseApproval, counted_approvals
from enclave_jobs.runs.models import Run
from enclave_jobs.runs.queries import approvals_given
from enclave_jobs.serving.models import Service, ServiceState, Use
from federation.sites.models import Site

ACTIVE = (ServiceState.STARTING, ServiceState.SERVING)


def served_to(site: Site) -> list[Service]:
    """The services that this site may ask, newest run first; also those that are being started."""
    rows = Use.objects.filter(site=site, revoked_at=None, service__state__in=ACTIVE)
    found = rows.select_related("service__run__study").order_by("-service__run__created_at")
    return [use.service for use in found]


def asked_of(site: Site) -> QuerySet[Service]:
    """The services that ask for the signatures of this site's runs, or have them, newest first."""
    runs = Run.objects.filter(study__approvals__site=site, study__approvals__signature__isnull=False)
    asked = Service.objects.filter(run__in=runs).exclude(state=ServiceState.OFF)
    return asked.select_related("run__study").order_by("-changed_at")


def release_approvals(service: Service) -> dict[str, ReleaseApproval]:
    """The approvals so far, as the enclave takes them."""
    return {
        row.site_id: ReleaseApproval(None, tuple(row.confirmed), row.signature)
        for row in service.signatures.all()
    }


def found(service: Service) -> int:
    """How many of its approvals count."""
    return counted_approvals(release_approvals(service), approvals_given(service.run))


def uses_of(service: Service) -> QuerySet[Use]:
    """One row a site, with its counts."""
    return service.uses.select_related("site").order_by("site__name")


def to_look_after() -> list[str]:
    """The runs whose service the conductor has something to do for."""
    return list(Service.objects.filter(state__in=ACTIVE).values_list("run_id", flat=True))


def revoked_sites(service: Service) -> list[str]:
    """The sites that are to have no sessions."""
    return list(service.uses.exclude(revoked_at=None).values_list("site_id", flat=True))
