"""Whether each process of a coordinator lives, and is ready: /livez and /readyz of the web process, marks in
the state folder of worker and beat, a question to the supervisor.

A probe restarts a process that does not live and sends no requests to one that is not ready. Redis is no
condition for the web process: without it agents wait their time out, and pages and results go on.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from celery.signals import after_task_publish, beat_init, heartbeat_sent, worker_ready
from celery.worker import state
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from redis.exceptions import RedisError

from contracts.refusal import Refusal
from enclave_jobs import operations
from enclave_jobs.supervisor import client
from federation.redis_client import client as redis_client

FRESH_SECONDS: Final = 30.0
"""Beat sends every two seconds, and a worker's heart beats as often while it has its broker."""
WRITTEN_SECONDS: Final = 5.0
PROCESSES: Final = ("web", "worker", "beat", "supervisor")
_state: dict[str, Any] = {"beat": False, "consumer": None, "migrated": False, "written": {}}


def readiness() -> dict[str, bool]:
    """What the web process needs and reaches, by name. `redis` is told and is no condition."""
    found = {"database": False, "migrated": False, "redis": False}
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        found["database"] = True
        found["migrated"] = _migrated()
    except DatabaseError:
        pass
    with contextlib.suppress(RedisError, OSError):
        found["redis"] = bool(redis_client().ping())
    return found


def is_ready(found: dict[str, bool]) -> bool:
    """By what `readiness` has found."""
    return found["database"] and found["migrated"]


def _migrated() -> bool:
    """No migration is missing. Once that was so it is not asked again: another version is another process."""
    if not _state["migrated"]:
        executor = MigrationExecutor(connection)
        _state["migrated"] = not executor.migration_plan(executor.loader.graph.leaf_nodes())
    return bool(_state["migrated"])


def fault_of(process: str) -> str:
    """What is wrong with this process on this machine, in words; empty where nothing is."""
    match process:
        case "web":
            return _web_fault()
        case "supervisor":
            try:
                client.listing(settings.SUPERVISOR_ADDRESS or "")
            except Refusal as refusal:
                return refusal.code
            return ""
        case _:
            return _mark_fault(process)


def _web_fault() -> str:
    address = urlsplit(f"//{settings.LISTEN}")
    line = HTTPConnection(address.hostname or "127.0.0.1", address.port or 80, timeout=5)
    try:
        line.request("GET", "/readyz")
        answer = line.getresponse()
        return "" if answer.status == 200 else answer.read().decode(errors="replace").strip()
    except OSError as error:
        return f"it does not answer ({type(error).__name__})"
    finally:
        line.close()


def _mark_fault(process: str) -> str:
    try:
        age = time.time() - _mark(process).stat().st_mtime
    except FileNotFoundError:
        return "it has never said that it lives"
    return "" if age < FRESH_SECONDS else f"it was last heard of {age:.0f} s ago"


def _mark(process: str) -> Path:
    """Machines may share the state folder, so each writes under its own name."""
    return settings.STATE_DIR / "alive" / f"{process}@{socket.gethostname()}"


def _write(process: str) -> bool:
    """Leave the mark, unless that was done just now."""
    now = time.monotonic()
    if now - _state["written"].get(process, float("-inf")) < WRITTEN_SECONDS:
        return False
    _state["written"][process] = now
    mark = _mark(process)
    mark.parent.mkdir(mode=0o700, exist_ok=True)
    mark.touch()
    os.utime(mark)
    return True


@worker_ready.connect
def _is_worker(sender: Any, **_: object) -> None:
    _state["consumer"] = sender


@heartbeat_sent.connect
def _worker_lives(**_: object) -> None:
    if _write("worker") and (consumer := _state["consumer"]) is not None:
        with contextlib.suppress(RedisError, OSError):
            operations.note_worker(_worker_of(consumer))


def _worker_of(consumer: Any) -> operations.Worker:
    """What the operator's page shows of this very worker."""
    return operations.Worker(
        consumer.hostname,
        int(consumer.controller.concurrency),
        sorted(queue.name for queue in consumer.task_consumer.queues),
        sorted(request.name for request in tuple(state.active_requests)),
        sum(state.total_count.values()),
    )


@beat_init.connect
def _is_beat(**_: object) -> None:
    _state["beat"] = True


@after_task_publish.connect
def _beat_lives(**_: object) -> None:
    if _state["beat"]:
        _write("beat")
