"""What an operator watches: workers and queues (asked of Celery and Redis), disks, agents, the log.

Each answer is bounded in time: a broker that is gone is an answer, not an error.
"""

from __future__ import annotations

import re
import shutil
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from celery import current_app
from django.conf import settings
from django.db import connection
from django.db.models import Count, Sum

from enclave_jobs.runs.models import Run
from federation.attestation import log
from federation.attestation.models import Checkpoint, LogEntry, StoredEvidence
from federation.sites.models import Site, SiteState

OLDEST_AGENT = "0.1.0"
"""Agents below this version do not speak all of what the coordinator asks."""
ASK_SECONDS = 1.0
SWEEP_KEY = "fedslice:last-sweep"
SWEEP_LATE = 30.0
LEAST_FREE = 0.10


@dataclass(frozen=True)
class Worker:
    """A Celery worker that answered: what it may do, and what it does now."""

    name: str
    processes: int
    queues: list[str]
    active: list[str]
    done: int


@dataclass(frozen=True)
class WorkerReport:
    """Workers, messages that wait by queue, and how long ago the clock (beat and a worker) last swept, in
    seconds. `fault` is set where the broker did not answer."""

    workers: list[Worker]
    queues: list[tuple[str, int]]
    swept: float | None
    fault: str = ""

    @property
    def late(self) -> bool:
        return self.swept is None or self.swept > SWEEP_LATE


def note_sweep() -> None:
    """The sweep ran: proof that beat, broker and a worker are well. Written to Redis, for nobody but
    `worker_report`."""
    with current_app.connection_for_write() as line:
        line.default_channel.client.set(SWEEP_KEY, f"{time.time():.3f}", ex=86400)


def worker_report() -> WorkerReport:
    """Ask the broker and every worker; takes up to a second or two."""
    try:
        with current_app.connection_for_read(transport_options={"socket_timeout": ASK_SECONDS}) as line:
            line.ensure_connection(max_retries=1, timeout=ASK_SECONDS)
            redis = line.default_channel.client
            size = line.default_channel._size  # of all priorities, which Redis keeps as lists of their own
            queues = [(queue.name, int(size(queue.name))) for queue in current_app.conf.task_queues or ()]
            swept = redis.get(SWEEP_KEY)
        asked = current_app.control.inspect(timeout=ASK_SECONDS)
        stats = asked.stats() or {}
        serving = asked.active_queues() or {} if stats else {}
        active = asked.active() or {} if stats else {}
    except Exception as error:  # whatever the broker's library raises: its absence is the answer
        return WorkerReport([], [], None, type(error).__name__)
    workers = [
        Worker(
            name,
            len(stats_of.get("pool", {}).get("processes", [])),
            sorted(queue["name"] for queue in serving.get(name, [])),
            [task["name"] for task in active.get(name, [])],
            sum(stats_of.get("total", {}).values()),
        )
        for name, stats_of in sorted(stats.items())
    ]
    return WorkerReport(workers, queues, time.time() - float(swept) if swept else None)


@dataclass(frozen=True)
class StoragePlace:
    """Something that takes room, in bytes; `of` is the room there is, where that is known."""

    name: str
    bytes: int
    of: int | None = None

    @property
    def tight(self) -> bool:
        """Less than a tenth is free."""
        return self.of is not None and self.bytes > (1 - LEAST_FREE) * self.of


def storage() -> dict[str, Any]:
    """Disks, database, sealed blobs by kind, evidence, and log files."""
    disks = [_disk("state", settings.STATE_DIR)]
    if settings.BLOB_DIR.exists() and settings.BLOB_DIR.stat().st_dev != settings.STATE_DIR.stat().st_dev:
        disks.append(_disk("blobs", settings.BLOB_DIR))
    blobs = (
        Run.objects.filter(blobs__isnull=False)
        .order_by()
        .values("blobs__kind", "blobs__complete")
        .annotate(count=Count("blobs"), bytes=Sum("blobs__bytes"))
    )
    logs = sorted((settings.STATE_DIR / "logs").glob("*.log"))
    return {
        "disks": disks,
        "database": _database_bytes(),
        "engine": connection.vendor,
        "blobs": [
            {"kind": row["blobs__kind"], "complete": row["blobs__complete"], "count": row["count"],
             "bytes": row["bytes"]}
            for row in blobs.order_by("blobs__kind", "-blobs__complete")
        ],
        "logs": [StoragePlace(path.name, path.stat().st_size) for path in logs],
    }  # fmt: skip


def _disk(name: str, folder: Path) -> StoragePlace:
    usage = shutil.disk_usage(folder)
    return StoragePlace(name, usage.total - usage.free, usage.total)


def _database_bytes() -> int:
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_database_size(current_database())")
            return int(cursor.fetchone()[0])
    name = Path(str(connection.settings_dict["NAME"]))
    parts = (name.with_name(name.name + suffix) for suffix in ("", "-wal", "-shm"))
    return sum(part.stat().st_size for part in parts if part.is_file())


def is_too_old(version: str) -> bool:
    """Whether an agent of this version should be updated; one without a version has not spoken yet."""
    return bool(version) and _parts(version) < _parts(OLDEST_AGENT)


def _parts(version: str) -> tuple[int, ...]:
    numbers = [int(number) for number in re.findall(r"\d{1,9}", version)[:3]]
    return tuple(numbers + [0] * (3 - len(numbers)))


def agents() -> list[dict[str, Any]]:
    """Versions in the field, the most common first, each with its sites."""
    rows = Site.objects.exclude(agent_version="").exclude(state=SiteState.REVOKED)
    versions: dict[str, list[Site]] = {}
    for site in rows:
        versions.setdefault(site.agent_version, []).append(site)
    return [
        {"version": version, "sites": sites, "too_old": is_too_old(version)}
        for version, sites in sorted(versions.items(), key=lambda pair: (-len(pair[1]), pair[0]))
    ]


@dataclass(frozen=True)
class LogHealth:
    """The transparency log: how long, its newest entry, its newest checkpoint, and whether the leaves are
    all there (an empty log says nothing). `behind` counts entries that no checkpoint commits to yet."""

    size: int
    last: datetime | None
    checkpoint: Checkpoint | None
    behind: int
    whole: bool
    evidence: int


def log_health() -> LogHealth:
    """Cheap questions only; the whole tree is checked by `verify_bundle`."""
    size = log.size()
    newest = LogEntry.objects.order_by("-index").only("index", "at").first()
    checkpoint = Checkpoint.objects.first()
    last = newest.index + 1 if newest else 0
    whole = last == size == LogEntry.objects.count()
    return LogHealth(
        size,
        newest.at if newest else None,
        checkpoint,
        size - (checkpoint.size if checkpoint else 0),
        whole,
        StoredEvidence.objects.count(),
    )
