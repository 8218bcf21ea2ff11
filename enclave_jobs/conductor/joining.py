"""Sites join. Method 1: each agent's client slice attests the server enclave and is admitted by it. Method 2:
each agent verifies the server enclave, brings its sealed features, and wraps their keys."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from contracts.course import naming_sites, server_of
from contracts.manifest import Manifest
from contracts.refusal import Refusal
from enclave_jobs import leases
from enclave_jobs.conductor import dispatch, restoring, tails
from enclave_jobs.conductor.waiting import extended, hurried, joining_since
from enclave_jobs.models import JOINS, Enclave, Features, Job, JobKind, JobState
from federation.sites.models import Site, SiteState
from federation.studies.frozen import manifest_of
from federation.studies.models import Run, RunState
from federation.studies.queries import counting
from federation.studies.transitions import apply, note


def offer_all(run: Run, enclave: Enclave, manifest: Manifest) -> None:
    """Ask every member to join this enclave; a site that is away finds the job when it comes back."""
    active = set(
        Site.objects.filter(pk__in=[site.id for site in manifest.sites], state=SiteState.ACTIVE).values_list(
            "pk", flat=True
        )
    )
    split = server_of(manifest) == "split_server"
    for site in manifest.sites:
        if site.id not in active or (split and _asked(run, site.id, enclave)):
            continue
        inputs: dict[str, Any] = {"enclave": enclave.pk, "epoch": enclave.epoch}
        kind = tails.join_kind(run, site.id) if split else JobKind.JOIN
        escrow = restoring.escrow_for(run, site.id) if split else None
        if escrow is not None:
            inputs["escrow"] = escrow
        leases.offer(run, site.id, kind, enclave.pk, round=None, inputs=inputs)


def _asked(run: Run, site: str, enclave: Enclave) -> bool:
    """Whether a site was asked for its features, or for their keys, for this enclave: once is enough."""
    return Job.objects.filter(run=run, site_id=site, enclave=enclave.pk, kind__in=JOINS).exists()


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


def step(run: Run) -> None:
    """Go on when all have joined, or when there is a quorum and the deadline has passed or the lead says so.

    Refuses with `run.not_joined` when too few can come.
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
    quorum = manifest.aggregation.quorum
    if server_of(manifest) == "split_server":
        quorum = max(quorum, naming_sites(manifest))  # fewer could not name what the enclave goes on from
    wait = timedelta(seconds=manifest.aggregation.deadline_seconds)
    began = joining_since(run, enclave.ready_at or enclave.started_at)
    deadline = began + wait
    found = counting(run, here)
    go_on = found >= quorum and hurried(run, began)
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
