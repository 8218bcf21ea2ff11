"""Which sites are here: those that have joined the run's present enclave."""

from __future__ import annotations

from enclave_jobs.blobs.models import Features
from enclave_jobs.jobs.models import JOINS, Job, JobState
from enclave_jobs.runs.models import Run
from federation.sites.models import SiteState


def joined(run: Run) -> list[str]:
    """The ids of the active sites that have joined the run's present enclave, in order; those whose features
    it has refused are not among them."""
    refused = Features.objects.filter(run=run).exclude(error_code="")
    done = Job.objects.filter(
        run=run,
        kind__in=JOINS,
        enclave=run.enclave_id,
        state=JobState.DONE,
        site__state=SiteState.ACTIVE,
    )
    done = done.exclude(site_id__in=refused.values_list("site_id", flat=True))
    return sorted(done.values_list("site_id", flat=True))
