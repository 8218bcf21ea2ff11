"""Dispatch a task after the commit. A broker that is down loses nothing: the sweep finds the work later."""

from __future__ import annotations

import logging
import time
from functools import partial
from uuid import uuid4

from celery import current_app
from celery.signals import before_task_publish, task_prerun
from django.db import transaction
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from enclave_jobs import pending

logger = logging.getLogger(__name__)

ADVANCE = "enclave_jobs.advance_run"
END = "enclave_jobs.end_run"
SERVE = "enclave_jobs.serve_run"
RELEASE = "enclave_jobs.release_run"
PROVE = "enclave_jobs.prove_model"
READ_BACK = "enclave_jobs.read_back"
SENT_AT = "fedslice_sent_at"
OF_A_RUN = (ADVANCE, END, SERVE, RELEASE)


def after_commit(task: str, identifier: str | int) -> None:
    """Send the task with this one id when the transaction commits, or now where there is none."""
    transaction.on_commit(partial(send, task, identifier))


def send(task: str, identifier: str | int) -> None:
    """Send the task now, unless one that has not begun waits already (pending.py), or leave it to the sweep.
    `routing.py` chooses its queue."""
    message = str(uuid4())
    try:
        if pending.claim(task, identifier, message):
            current_app.send_task(task, args=[identifier], task_id=message, retry=False)
            pending.sent(task, identifier, message)
    except (OperationalError, RedisError, OSError) as error:
        logger.warning("%s was not dispatched (%s); the sweep will", task, type(error).__name__)


@before_task_publish.connect
def _dated(headers: dict[str, object] | None = None, **_: object) -> None:
    """Each message says when it was sent: how long queues wait is read from those that still do."""
    if headers is not None:
        headers[SENT_AT] = time.time()


@task_prerun.connect
def begun(task_id: str, task: object, args: tuple[str | int, ...], **_: object) -> None:
    """In the worker, before the step reads anything."""
    name = getattr(task, "name", "")
    if name not in (*OF_A_RUN, PROVE):
        return
    try:
        pending.begun(name, args[0], task_id)
    except (RedisError, OSError) as error:
        logger.warning("%s keeps its place a while (%s)", name, type(error).__name__)
