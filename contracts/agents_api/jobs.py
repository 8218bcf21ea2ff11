"""Take a job, keep its lease, hand in its result or its failure. contracts/jobs.py has inputs and results."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Raw, Struct

from contracts.agents_api.endpoint import Endpoint
from contracts.jobs import JobDone, Lease
from contracts.policy import Hex32
from contracts.refusal import Fact

LONGEST_WAIT = 50
"""Seconds that a request may be kept: nginx and others cut at 60."""
MAX_STAGE, MAX_DETAIL = 64, 300
MOST_FACTS = 32


class Wish(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How long (seconds) the request may be kept until there is work; at most LONGEST_WAIT."""

    wait: Annotated[int, Meta(ge=0, le=LONGEST_WAIT)] = 0


class LeasedJob(Struct, frozen=True):
    """A job that this agent now holds. `lease` names the lease in every later request; `deadline` is in Unix
    seconds. `inputs` are those of contracts/jobs.py for its kind, decoded where the kind is known."""

    id: str
    kind: str
    lease: int
    deadline: int
    run: str
    manifest_hash: Hex32
    round: int | None
    inputs: Annotated[Raw, Meta(extra_json_schema={"type": "object"})]


class ProgressBody(Struct, frozen=True, forbid_unknown_fields=True):
    """How far the job is: a stage's name, a fraction of it, a line for people (never a row or a label)."""

    lease: Lease
    stage: Annotated[str, Meta(max_length=MAX_STAGE)]
    fraction: Annotated[float, Meta(ge=0, le=1)] | None = None
    detail: Annotated[str, Meta(max_length=MAX_DETAIL)] = ""


class Deadline(Struct, frozen=True):
    """When the lease ends now (Unix seconds)."""

    deadline: int


class Failure(Struct, frozen=True, forbid_unknown_fields=True):
    """Why the job could not be done: a code of the catalogue with its facts."""

    lease: Lease
    code: Annotated[str, Meta(max_length=64)]
    facts: Annotated[dict[str, Fact], Meta(max_length=MOST_FACTS)] = {}


class Taken(Struct, frozen=True):
    """The job's state after the request: `done`, `waiting` (for another try) or `failed`."""

    state: str


LEASE = Endpoint("POST", "lease", Wish, LeasedJob)
PROGRESS = Endpoint("POST", "jobs/{job}/progress", ProgressBody, Deadline)
RESULT = Endpoint("POST", "jobs/{job}/result", JobDone, Taken)
"""The body is that of the job's kind (contracts/jobs.py)."""
FAILURE = Endpoint("POST", "jobs/{job}/failure", Failure, Taken)
