"""Leases: how a site's agent takes a job, keeps it, and hands it in.

1. `offer` makes jobs wait for their sites.
2. `lease` gives it to the agent under a number, until a deadline. Numbers only grow.
3. `touch` (the heartbeat of progress) moves the deadline.
4. A lease whose deadline has passed is over, whether or not the sweep has seen it: the job waits again, and
   the next lease has the next number.
5. `current` is the gate for everything an agent says about a job: right site, right number, in time. Who
   comes late is refused with `lease.late`, by the number and not by luck.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec
from django.db.models import Q, QuerySet
from django.utils import timezone

from contracts.agents_api.jobs import MAX_DETAIL, MAX_STAGE
from contracts.canonical import digest
from contracts.jobs import Joining
from contracts.refusal import Fact, Refusal
from contracts.sealed.escrow import Escrow
from enclave_jobs.jobs.models import Inputs, Job, JobKind, JobState
from enclave_jobs.jobs.transitions import JOB
from enclave_jobs.runs.models import Round, Run, RunState
from federation import logs
from federation.sites.maintenance import open_until
from federation.sites.models import Site
from federation.sites.wake import wake
from federation.transitions import move

logger = logging.getLogger(__name__)

LEASE_SECONDS = 60
RETRY_SECONDS = 5
MAX_ATTEMPTS = 5
AGAIN_SECONDS = 10
"""After so many attempts an agent that asks again while it holds the lease is given it so seldom."""
LEASING_RUNS = (RunState.JOINING, RunState.RUNNING)
_WAITS = Q(state=JobState.WAITING) & (Q(run__state__in=LEASING_RUNS) | Q(kind=JobKind.SHARE))
LIVE_RUNS = (RunState.STARTING, RunState.JOINING, RunState.RUNNING, RunState.PAUSED, RunState.FINISHING)


def offer(
    run: Run,
    kind: JobKind,
    enclave: str,
    *,
    round: Round | None,
    common: Joining,
    sites: Mapping[str, Escrow | None],
) -> None:
    """Make a job wait for each of `sites` (ids, each with its share of the state's key where it brings one
    back), with the inputs that they have in `common`; in as many queries for a thousand sites as for one.
    Offering again adds no second job; jobs that are not over get the common inputs of now, and their agents
    see them with their next lease."""
    if not sites:
        return
    said = msgspec.to_builtins(common)
    hash = digest(said)
    Inputs.objects.get_or_create(pk=hash, defaults={"run": run, "said": said})
    asked = Job.objects.filter(run=run, kind=kind, round=round, enclave=enclave)
    known = dict(asked.values_list("site_id", "common_id"))
    if any(known.get(site, hash) != hash for site in sites):
        open_ones = asked.filter(site_id__in=sites, state__in=(JobState.WAITING, JobState.LEASED))
        open_ones.update(common=hash)
    fresh = [site for site in sites if site not in known]
    if fresh:
        fields: dict[str, Any] = {"run": run, "kind": kind, "round": round, "enclave": enclave}
        jobs = (Job(**fields, site_id=site, common_id=hash, inputs=_own(sites[site])) for site in fresh)
        Job.objects.bulk_create(jobs, ignore_conflicts=True)  # another worker may offer them too
        wake(fresh)


def _own(escrow: Escrow | None) -> dict[str, Any]:
    return {} if escrow is None else {"escrow": msgspec.to_builtins(escrow)}


def expects(site: Site) -> bool:
    """Whether any job of this site is open. Most who ask have none, for days: they cost this one look."""
    return Job.objects.filter(site=site, state__in=(JobState.WAITING, JobState.LEASED)).exists()


def lease(site: Site) -> Job | None:
    """The oldest job that waits for this site, now leased to it; None where there is nothing to do.

    An agent does one job at a time. One that asks while it holds a lease never heard of it, or has begun
    again: it gets the same job at once, under the next number, so that whoever had the last is late.
    A run that is paused gives no new work, and a site in a maintenance window gets none; what was taken
    before may still be handed in. Shares are for models that are served when their run is over.
    """
    if open_until(site) is not None:
        return None
    now = timezone.now()
    jobs = Job.objects.filter(site=site).select_related("run", "round__run", "site", "common")
    held = jobs.filter(state=JobState.LEASED, lease_deadline__gt=now).first()
    if held is not None and _again_at(held) <= now and _give_again(held, now):
        return held
    for job in _waiting(jobs).filter(Q(not_before__isnull=True) | Q(not_before__lte=now)):
        taken = move(
            job,
            JOB,
            JobState.WAITING,
            JobState.LEASED,
            lease_number=job.lease_number + 1,
            lease_deadline=now + timedelta(seconds=LEASE_SECONDS),
            heartbeat_at=now,
            attempts=job.attempts + 1,
            progress={},
        )
        if taken:
            logs.also(run=job.run_id, round=job.round and job.round.number)
            return job
    return None


def next_at(site: Site) -> datetime | None:
    """When this site may get work that is known but not yet due; None where none is."""
    closed = open_until(site)
    if closed is not None:
        return closed
    known = Job.objects.filter(
        _WAITS | Q(state=JobState.LEASED, lease_deadline__gt=timezone.now()), site=site
    )
    due = (job.not_before if job.state == JobState.WAITING else _again_at(job) for job in known)
    return min((at for at in due if at is not None), default=None)


def deadline(site: Site, run: Run) -> datetime | None:
    """Until when this site's lease of a job of this run lasts; None where it has none."""
    held = Job.objects.filter(site=site, run=run, state=JobState.LEASED, lease_deadline__gt=timezone.now())
    return held.values_list("lease_deadline", flat=True).first()


def _waiting(jobs: QuerySet[Job]) -> QuerySet[Job]:
    return jobs.filter(_WAITS)


def _again_at(held: Job) -> datetime:
    """At once, for an agent that has begun again; one that begins again and again must not do so all the
    time, nor wait for the deadline once what was in its way is gone."""
    heard = held.heartbeat_at or timezone.now()
    return heard if held.attempts < MAX_ATTEMPTS else heard + timedelta(seconds=AGAIN_SECONDS)


def _give_again(job: Job, now: datetime) -> bool:
    """Only this very lease, and only while it lasts: a result may come in at the same time."""
    fresh: dict[str, Any] = {
        "lease_number": job.lease_number + 1,
        "lease_deadline": now + timedelta(seconds=LEASE_SECONDS),
        "heartbeat_at": now,
        "attempts": job.attempts + 1,
        "progress": {},
    }
    same = Job.objects.filter(pk=job.pk, state=JobState.LEASED, lease_number=job.lease_number)
    if not same.update(**fresh):
        return False
    for name, value in fresh.items():
        setattr(job, name, value)
    return True


def current(site: Site, job_id: str, number: int, *, handed_in: bool = False) -> Job:
    """The job, locked, if this site holds its lease `number` now; call it inside a transaction.

    With `handed_in`, also a job that was done under this very lease: an agent that lost our answer asks
    again.

    Raises: `job.unknown`, `lease.foreign`, `run.reattest` (the job was for an enclave that is gone) and
    `lease.late`.
    """
    jobs = Job.objects.select_for_update(of=("self",)).select_related("run", "round__run", "site")
    job = jobs.filter(pk=job_id).first()
    if job is None:
        raise Refusal("job.unknown")
    if job.site_id != site.pk:
        raise Refusal("lease.foreign")
    logs.also(run=job.run_id, round=job.round and job.round.number)
    if handed_in and (job.state, job.lease_number) == (JobState.DONE, number):
        return job
    if job.state == JobState.WITHDRAWN and job.enclave != job.run.enclave_id and job.run.state in LIVE_RUNS:
        raise Refusal("run.reattest")
    over = job.lease_deadline is None or job.lease_deadline <= timezone.now()
    if job.state != JobState.LEASED or job.lease_number != number or over:
        raise Refusal("lease.late")
    return job


def touch(job: Job, stage: str, fraction: float | None, detail: str) -> None:
    """Note the progress and give the lease its full time again."""
    now = timezone.now()
    job.heartbeat_at = now
    job.lease_deadline = now + timedelta(seconds=LEASE_SECONDS)
    job.progress = {"stage": stage[:MAX_STAGE], "fraction": fraction, "detail": detail[:MAX_DETAIL]}
    job.save(update_fields=["heartbeat_at", "lease_deadline", "progress"])


def complete(job: Job, result: dict[str, Any]) -> bool:
    """The leased job is done."""
    return move(job, JOB, JobState.LEASED, JobState.DONE, result=result, lease_deadline=None)


def give_up(job: Job, code: str, facts: dict[str, Fact], *, retry: bool) -> bool:
    """The agent could not do it. Whether the job waits for another try (at most MAX_ATTEMPTS in all)."""
    again = retry and job.attempts < MAX_ATTEMPTS
    changes: dict[str, Any] = {"error_code": code, "facts": facts, "lease_deadline": None}
    if again:
        changes["not_before"] = timezone.now() + timedelta(seconds=RETRY_SECONDS)
    move(job, JOB, JobState.LEASED, JobState.WAITING if again else JobState.FAILED, **changes)
    if again:
        wake([job.site_id])
    return again


def refuse(job: Job, code: str) -> bool:
    """What a job brought is of no use."""
    return move(job, JOB, JobState.DONE, JobState.FAILED, error_code=code)


def expire_overdue() -> list[Job]:
    """Let every job whose lease has run out wait again; those jobs."""
    jobs = Job.objects.filter(state=JobState.LEASED, lease_deadline__lte=timezone.now())
    over = []
    for job in jobs.select_related("run", "round__run", "site"):
        # The heartbeat may be faster: only this very lease, and only if it is still over.
        same = Job.objects.filter(pk=job.pk, lease_number=job.lease_number, lease_deadline=job.lease_deadline)
        if same.filter(state=JobState.LEASED).update(state=JobState.WAITING, lease_deadline=None):
            logger.info("the lease %d of job %s has run out", job.lease_number, job.pk)
            over.append(job)
    wake(job.site_id for job in over)
    return over


def withdraw(**which: Any) -> None:
    """Take back the jobs that nobody needs any more; a result for one of them is late."""
    Job.objects.filter(state__in=(JobState.WAITING, JobState.LEASED), **which).update(
        state=JobState.WITHDRAWN, lease_deadline=None
    )


def expire(**which: Any) -> None:
    """End the jobs whose round was closed at its deadline; a result for one of them is late."""
    Job.objects.filter(state__in=(JobState.WAITING, JobState.LEASED), **which).update(
        state=JobState.EXPIRED, lease_deadline=None
    )
