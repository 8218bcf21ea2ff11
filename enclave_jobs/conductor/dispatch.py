"""Dispatch a task after the commit. A broker that is down loses nothing: the sweep finds the work later."""

from __future__ import annotations

import logging
from functools import partial

from celery import current_app
from django.db import transaction
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

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
    """Send the task now, or leave it to the sweep. `routing.py` chooses its queue."""
    try:
        current_app.send_task(task, args=[identifier], retry=False)
    except (OperationalError, RedisError, OSError) as error:
        logger.warning("%s was not dispatched (%s); the sweep will", task, type(error).__name__)
