"""Dispatch a task after the commit. A broker that is down loses nothing: the sweep finds the work later."""

from __future__ import annotations

import logging
from functools import lru_cache, partial

from celery import current_app
from django.db import transaction
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from contracts.course import server_of
from contracts.refusal import Refusal
from enclave_jobs.queues import ENCLAVE, MODELS, TAIL
from federation.studies.frozen import manifest_of
from federation.studies.models import Round, Run

logger = logging.getLogger(__name__)

START = "enclave_jobs.start_run"
ADVANCE = "enclave_jobs.advance_run"
AGGREGATE = "enclave_jobs.aggregate_round"
END = "enclave_jobs.end_run"
SERVE = "enclave_jobs.serve_run"
RELEASE = "enclave_jobs.release_run"
PROVE = "enclave_jobs.prove_model"


def after_commit(task: str, identifier: str | int) -> None:
    """Send the task with this one id when the transaction commits, or now where there is none."""
    transaction.on_commit(partial(send, task, identifier))


def send(task: str, identifier: str | int) -> None:
    """Send the task now, or leave it to the sweep. Runs of Method 2 have workers of their own."""
    try:
        current_app.send_task(task, args=[identifier], queue=_queue(task, identifier), retry=False)
    except (OperationalError, RedisError, OSError) as error:
        logger.warning("%s was not dispatched (%s); the sweep will", task, type(error).__name__)


def _queue(task: str, identifier: str | int) -> str:
    if task == PROVE:
        return MODELS
    run = identifier
    if task == AGGREGATE:
        run = Round.objects.filter(pk=identifier).values_list("run_id", flat=True).first() or ""
    return _queue_of_run(str(run))


@lru_cache(4096)
def _queue_of_run(run_id: str) -> str:
    """What a run's manifest says about it never changes."""
    run = Run.objects.filter(pk=run_id).first()
    try:
        return TAIL if run is not None and server_of(manifest_of(run)) == "split_server" else ENCLAVE
    except Refusal:
        return ENCLAVE
