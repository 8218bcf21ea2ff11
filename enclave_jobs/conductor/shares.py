"""A finished run of Method 2: before its enclave serves the model or releases the parameters, the sites name
the run's last receipt to it, and hand back their shares of the state's key where they hold some.

Each site verifies the enclave itself, and seals its word to it (contracts/sealed/handback.py). The enclave
uses the restored state once enough have named its receipt.
"""

from __future__ import annotations

from collections.abc import Collection

from django.db import transaction

from contracts.course import naming_sites
from contracts.jobs import Joining
from contracts.manifest import Manifest
from contracts.program_calls import Nothing
from contracts.refusal import Refusal
from contracts.serving_calls import SHARE, ShareArguments
from contracts.split_server_calls import STATUS
from enclave_jobs.conductor import restoring
from enclave_jobs.enclaves.models import Enclave, EnclaveState
from enclave_jobs.jobs import leases
from enclave_jobs.jobs.models import Job, JobKind, JobState
from enclave_jobs.runs.models import Run
from enclave_jobs.runs.queries import counting
from enclave_jobs.supervisor import client
from federation.sites.models import Site, SiteState
from federation.studies.events import note


def restored(run: Run, enclave: Enclave, manifest: Manifest, approved_by: Collection[str] = ()) -> bool:
    """Whether the enclave has the last published state, and enough sites have named its receipt; if not, the
    sites are asked. One that names another receipt delays the others no longer than theirs take to come.
    The sites that have signed `approved_by` for a release name it as well.

    Raises: as `restoring.restore` does.
    """
    for job in Job.objects.filter(enclave=enclave.pk, kind=JobKind.SHARE, state=JobState.DONE):
        _bring(job)
    here = restoring.restore(run, enclave) != "waits for shares"
    if here and (counting(run, approved_by) >= naming_sites(manifest) or _is_named(enclave)):
        leases.withdraw(enclave=enclave.pk, kind=JobKind.SHARE)
        return True
    _ask(run, enclave, manifest)
    return False


def _is_named(enclave: Enclave) -> bool:
    return client.call(enclave.pk, STATUS, Nothing()).named


def is_wanted(job: Job) -> bool:
    """Whether the enclave that a share was asked for still lives."""
    return Enclave.objects.filter(pk=job.enclave, state=EnclaveState.READY).exists()


def _bring(job: Job) -> None:
    """Pass a site's sealed share on. One that does not open is its site's fault: others' may do."""
    try:
        client.call(job.enclave, SHARE, ShareArguments(job.site_id, job.result["share"]))
    except Refusal as refusal:
        if not refusal.code.startswith(("sealing.", "serving.", "state.no_shares")):
            raise
        if leases.refuse(job, refusal.code):
            note(job.run, "job.failed", site=job.site, job=job.kind, code=refusal.code, again=False)


def _ask(run: Run, enclave: Enclave, manifest: Manifest) -> None:
    """A job for every site; one that is away finds it when it comes back."""
    members = [site.id for site in manifest.sites]
    with transaction.atomic():
        Enclave.objects.select_for_update().get(pk=enclave.pk)
        if Job.objects.filter(enclave=enclave.pk, kind=JobKind.SHARE).exists():
            return
        active = Site.objects.filter(pk__in=members, state=SiteState.ACTIVE).values_list("pk", flat=True)
        inputs = Joining(enclave.pk, enclave.epoch)
        shares = restoring.escrows(run, active)
        leases.offer(run, JobKind.SHARE, enclave.pk, round=None, common=inputs, sites=shares)
        what = "release" if enclave.releases else "serving"
        note(run, f"{what}.waits_for_sites", enclave=enclave.pk)
