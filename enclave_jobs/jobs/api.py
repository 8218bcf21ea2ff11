"""Agents' API: take a job, keep its lease, hand in its result or its failure."""

from __future__ import annotations

from django.db import transaction
from django.http import HttpResponse
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from contracts.agents_api.jobs import FAILURE, LEASE, PROGRESS, RESULT, Deadline, LeasedJob, Taken
from contracts.refusal import Fact
from enclave_jobs.conductor import collecting, contributions
from enclave_jobs.jobs import leases
from enclave_jobs.jobs.models import Job
from enclave_jobs.jobs.results import ResultBody, lease_of, read_result
from enclave_jobs.runs.members import site_of
from error_catalogue import CATALOGUE
from federation.sites.agent_view import AgentView
from federation.sites.models import Site
from federation.sites.services import note_heard
from federation.wire import answer, document, read

RETRY_AFTER_SECONDS = 2
WAIT_HEADER = "FedSlice-Wait"
"""From the view to `enclave_jobs.jobs.line`: the site's id, how long to wait, and when to look again even if
nobody wakes it (seconds). The line takes it off; without one it tells a site its own id."""
CHECK_HEADER = "FedSlice-Check"
"""On a 204: somebody asks for new connection checks with the next heartbeat."""


class Leases(AgentView):
    """Ask for work; 204 where there is none. With `wait`, where the server keeps requests, the answer comes
    as soon as there is work; a 204 without Retry-After says that this long was waited. A job that this very
    agent holds already, because an answer was lost, is given once more under the next lease number."""

    @extend_schema(operation_id="job_lease", **document(LEASE, or_nothing=True))
    def post(self, request: Request) -> HttpResponse | Response:
        wish, site = read(request, LEASE), site_of(request)
        expects = leases.expects(site)
        job = take(site) if expects else None
        note_heard(site)
        if job is not None:
            return answer(LEASE, job)
        headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
        if site.check_wanted:
            headers[CHECK_HEADER] = "1"
        elif wish.wait:
            due = leases.next_at(site) if expects else None
            soon = wish.wait if due is None else (due - timezone.now()).total_seconds()
            headers[WAIT_HEADER] = f"{site.pk} {wish.wait} {max(soon, 0.0):.3f}"
        return Response(status=204, headers=headers)


def take(site: Site) -> LeasedJob | None:
    """Lease the next job to this site's agent: what it is told of it, or None."""
    with transaction.atomic():
        job = leases.lease(site)
        if job is None:
            return None
        contributions.taken(job)
    return LeasedJob(
        id=job.pk,
        kind=job.kind,
        lease=job.lease_number,
        deadline=_deadline(job),
        run=job.run_id,
        manifest_hash=job.run.manifest_hash,
        round=job.round.number if job.round else None,
        inputs=job.given,
    )


class JobProgress(AgentView):
    """Tell how far a job is; this is also the lease's heartbeat."""

    @extend_schema(operation_id="job_progress", **document(PROGRESS))
    def post(self, request: Request, job: str) -> HttpResponse:
        body = read(request, PROGRESS)
        with transaction.atomic():
            held = leases.current(site_of(request), job, body.lease)
            collecting.require_current_enclave(held)
            leases.touch(held, body.stage, body.fraction, body.detail)
            contributions.working(held)
        return answer(PROGRESS, Deadline(_deadline(held)))


class JobResult(AgentView):
    """Hand in a job. Doing so again with the same lease and the same result is answered in the same way."""

    @extend_schema(operation_id="job_result", **document(RESULT, body=ResultBody))
    def post(self, request: Request, job: str) -> HttpResponse:
        number = lease_of(request.body)
        with transaction.atomic():
            held = leases.current(site_of(request), job, number, handed_in=True)
            result = read_result(held.kind, request.body)
            collecting.take_result(held, result)
        return answer(RESULT, Taken(held.state))


class JobFailure(AgentView):
    """Say that a job could not be done, by a code; a code that a retry may fix makes the job wait again."""

    @extend_schema(operation_id="job_failure", **document(FAILURE))
    def post(self, request: Request, job: str) -> HttpResponse:
        body = read(request, FAILURE)
        known = CATALOGUE.get(body.code)
        code = body.code if known else "internal"
        facts = {name[:64]: _short(value) for name, value in body.facts.items()} if known else {}
        with transaction.atomic():
            held = leases.current(site_of(request), job, body.lease)
            collecting.take_failure(held, code, facts)
        return answer(FAILURE, Taken(held.state))


def _short(value: Fact) -> Fact:
    return value[:300] if isinstance(value, str) else value


def _deadline(job: Job) -> int:
    return int(job.lease_deadline.timestamp()) if job.lease_deadline else 0
