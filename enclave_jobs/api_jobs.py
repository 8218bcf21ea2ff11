"""Agents' API: take a job, keep its lease, hand in its result or its failure."""

from __future__ import annotations

from typing import Annotated, Any

from django.db import transaction
from drf_spectacular.utils import extend_schema
from msgspec import Meta, Struct
from rest_framework.request import Request
from rest_framework.response import Response

from contracts.policy import Hex32
from contracts.refusal import Fact
from enclave_jobs import leases
from enclave_jobs.conductor import collecting, contributions
from enclave_jobs.members import site_of
from enclave_jobs.models import Job
from enclave_jobs.results import ResultBody, lease_of, read_result
from error_catalogue import CATALOGUE
from federation.wire import AgentView, Nothing, document, read

RETRY_AFTER_SECONDS = 2
Number = Annotated[int, Meta(ge=1)]


class LeasedJob(Struct):
    """A job that this agent now holds. `lease` names the lease in every later request; `deadline` is in Unix
    seconds. `inputs.enclave` and `inputs.epoch` name the server enclave that the job is for."""

    id: str
    kind: str
    lease: int
    deadline: int
    run: str
    manifest_hash: Hex32
    round: int | None
    inputs: dict[str, Any]


class Progress(Struct, forbid_unknown_fields=True):
    """How far the job is: a stage's name, a fraction of it, a line for people (never a row or a label)."""

    lease: Number
    stage: Annotated[str, Meta(max_length=leases.MAX_STAGE)]
    fraction: Annotated[float, Meta(ge=0, le=1)] | None = None
    detail: Annotated[str, Meta(max_length=leases.MAX_DETAIL)] = ""


class Deadline(Struct):
    """When the lease ends now (Unix seconds)."""

    deadline: int


class Failure(Struct, forbid_unknown_fields=True):
    """Why the job could not be done: a code of the catalogue with its facts."""

    lease: Number
    code: Annotated[str, Meta(max_length=64)]
    facts: Annotated[dict[str, Fact], Meta(max_length=32)] = {}


class Taken(Struct):
    """The job's state after the request: `done`, `waiting` (for another try) or `failed`."""

    state: str


class Leases(AgentView):
    """Ask for work; 204 where there is none."""

    @extend_schema(operation_id="job_lease", **document(Nothing, LeasedJob, or_nothing=True))
    def post(self, request: Request) -> Response:
        read(request, Nothing)
        with transaction.atomic():
            job = leases.lease(site_of(request))
            if job is None:
                return Response(status=204, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})
            contributions.taken(job)
        return Response(
            {
                "id": job.pk,
                "kind": job.kind,
                "lease": job.lease_number,
                "deadline": _deadline(job),
                "run": job.run_id,
                "manifest_hash": job.run.manifest_hash,
                "round": job.round.number if job.round else None,
                "inputs": job.inputs,
            }
        )


class JobProgress(AgentView):
    """Tell how far a job is; this is also the lease's heartbeat."""

    @extend_schema(operation_id="job_progress", **document(Progress, Deadline))
    def post(self, request: Request, job: str) -> Response:
        told = read(request, Progress)
        with transaction.atomic():
            held = leases.current(site_of(request), job, told.lease)
            collecting.require_current_enclave(held)
            leases.touch(held, told.stage, told.fraction, told.detail)
            contributions.working(held)
        return Response({"deadline": _deadline(held)})


class JobResult(AgentView):
    """Hand in a job. Doing so again with the same lease and the same result is answered in the same way."""

    @extend_schema(operation_id="job_result", **document(ResultBody, Taken))
    def post(self, request: Request, job: str) -> Response:
        number = lease_of(request.body)
        with transaction.atomic():
            held = leases.current(site_of(request), job, number, handed_in=True)
            result = read_result(held.kind, request.body)
            collecting.take_result(held, result)
        return Response({"state": held.state})


class JobFailure(AgentView):
    """Say that a job could not be done, by a code; a code that a retry may mend makes the job wait again."""

    @extend_schema(operation_id="job_failure", **document(Failure, Taken))
    def post(self, request: Request, job: str) -> Response:
        told = read(request, Failure)
        known = CATALOGUE.get(told.code)
        code = told.code if known else "internal"
        facts = {name[:64]: _short(value) for name, value in told.facts.items()} if known else {}
        with transaction.atomic():
            held = leases.current(site_of(request), job, told.lease)
            collecting.take_failure(held, code, facts)
        return Response({"state": held.state})


def _short(value: Fact) -> Fact:
    return value[:300] if isinstance(value, str) else value


def _deadline(job: Job) -> int:
    return int(job.lease_deadline.timestamp()) if job.lease_deadline else 0
