"""Sites join, as the run's method asks them to: a client slice attests the server enclave and is
admitted by it, or the agent verifies it and brings sealed features with their keys."""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from contracts.jobs import Joining
from contracts.manifest import Manifest
from contracts.refusal import Refusal
from enclave_jobs import dispatch
from enclave_jobs.conductor import methods
from enclave_jobs.conductor.attendance import joined
from enclave_jobs.conductor.waiting import extended, joining_since, proceeds_early
from enclave_jobs.enclaves.models import Enclave
from enclave_jobs.jobs import leases
from enclave_jobs.jobs.models import JOINS, Job, JobState
from enclave_jobs.runs.models import Run, RunState
from enclave_jobs.runs.queries import counting
from federation.frozen import manifest_of
from federation.sites.models import Site, SiteState
from federation.studies.events import apply, note


def offer_all(run: Run, enclave: Enclave, manifest: Manifest) -> None:
    """Ask every member to join this enclave; a site that is away finds the job when it comes back."""
    active = set(
        Site.objects.filter(pk__in=[site.id for site in manifest.sites], state=SiteState.ACTIVE).values_list(
            "pk", flat=True
        )
    )
    # To join this enclave, in whatever way: once is enough.
    asked = Job.objects.filter(run=run, enclave=enclave.pk, kind__in=JOINS)
    missing = sorted(active - set(asked.values_list("site_id", flat=True)))
    inputs = Joining(enclave.pk, enclave.epoch)
    for kind, sites in methods.of(manifest).join_jobs(run, missing).items():
        leases.offer(run, kind, enclave.pk, round=None, common=inputs, sites=sites)


def advance(run: Run) -> None:
    """Go on when all have joined, or when there is a quorum and the deadline has passed or the lead says so.

    Raises: `run.not_joined` when too few can come.
    """
    manifest = manifest_of(run)
    enclave = Enclave.objects.get(pk=run.enclave_id)
    # Who is still out first, who is here after: a site that joins between the two questions is not lost.
    still_out = Job.objects.filter(
        run=run,
        kind__in=JOINS,
        enclave=enclave.pk,
        state__in=(JobState.WAITING, JobState.LEASED),
        site__state=SiteState.ACTIVE,
    ).exists()
    here = joined(run)
    quorum = methods.of(manifest).least_present(manifest)
    wait = timedelta(seconds=manifest.aggregation.deadline_seconds)
    began = joining_since(run, enclave.ready_at or enclave.started_at)
    deadline = began + wait
    found = counting(run, here)
    go_on = found >= quorum and proceeds_early(run, began)
    if still_out and timezone.now() < deadline and not go_on:
        return
    if found < quorum:
        if still_out and extended(run, None, deadline, wait):
            return
        raise Refusal("run.not_joined", found=found, quorum=quorum)
    with transaction.atomic():
        if apply(
            run, RunState.JOINING, RunState.RUNNING, facts={"joined": len(here), "of": len(manifest.sites)}
        ):
            dispatch.after_commit(dispatch.ADVANCE, run.pk)


def took_part(job: Job) -> None:
    """A site has joined."""
    note(job.run, "site.joined", site=job.site, enclave=job.enclave)
