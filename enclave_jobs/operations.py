"""What an operator watches: workers and queues (as Redis has them), disks, agents, the log.

Each answer is bounded in time: a broker that is gone is an answer, not an error.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from celery import current_app
from django.conf import settings
from django.db import connection
from django.db.models import Count, Sum
from redis.exceptions import RedisError

from enclave_jobs.blobs.models import Blob
from enclave_jobs.queues import lists_of
from federation.attestation import log
from federation.attestation.models import Checkpoint, LogEntry, StoredEvidence
from federation.redis_client import client
from federation.sites.models import Site, SiteState

OLDEST_AGENT = "0.1.0"
"""Agents below this version do not speak all of what the coordinator asks."""
SWEEP_KEY = "fedslice:last-sweep"
WORKER_KEY = "fedslice:worker:"
WORKER_SECONDS = 30
"""After so long without a word of it a worker is gone."""
NAMED_OF_A_VERSION = 20
RECENT = 10_000
SWEEP_LATE = 30.0
LEAST_FREE = 0.10


@dataclass(frozen=True)
class Worker:
    """A Celery worker that lives: what it may do, and what it does now."""

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


def note_worker(worker: Worker) -> None:
    """A worker tells of itself, every few seconds. Nobody asks it: what asks waits for those who are busy."""
    client().set(f"{WORKER_KEY}{worker.name}", json.dumps(asdict(worker)), ex=WORKER_SECONDS)


def worker_report() -> WorkerReport:
    """What Redis holds of them: nobody is asked, and a Redis that is away is an answer within seconds."""
    try:
        redis = client()
        waiting = {
            queue.name: sum(int(redis.llen(name)) for name in lists_of(queue.name))
            for queue in current_app.conf.task_queues or ()
        }
        swept = redis.get(SWEEP_KEY)
        texts = [redis.get(key) for key in redis.scan_iter(f"{WORKER_KEY}*", count=1000)]
    except (RedisError, OSError) as error:
        return WorkerReport([], [], None, type(error).__name__)
    workers = sorted((Worker(**json.loads(one)) for one in texts if one), key=lambda worker: worker.name)
    return WorkerReport(workers, list(waiting.items()), time.time() - float(swept) if swept else None)


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
    here = Blob.objects.filter(complete=True).values("kind")
    blobs = here.annotate(count=Count("*"), bytes=Sum("bytes")).order_by("kind")
    logs = sorted((settings.STATE_DIR / "logs").glob("*.log"))
    return {
        "disks": disks,
        "database": _database_bytes(),
        "engine": connection.vendor,
        "blobs": list(blobs),
        "logs": [StoragePlace(path.name, path.stat().st_size) for path in logs],
    }


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
    """Versions in the field, the most common first, each with how many sites have it, and the first of
    them."""
    rows = Site.objects.exclude(agent_version="").exclude(state=SiteState.REVOKED)
    versions: dict[str, list[Site]] = {}
    for site in rows.only("pk", "name", "agent_version"):
        versions.setdefault(site.agent_version, []).append(site)
    return [
        {
            "version": version,
            "count": len(sites),
            "sites": sites[:NAMED_OF_A_VERSION],
            "others": len(sites[NAMED_OF_A_VERSION:]),
            "too_old": is_too_old(version),
        }
        for version, sites in sorted(versions.items(), key=lambda pair: (-len(pair[1]), pair[0]))
    ]


@dataclass(frozen=True)
class LogHealth:
    """The transparency log: how long, its newest entry, its newest checkpoint, and whether the RECENT newest
    leaves are all there (an empty log says nothing). `behind` counts entries that no checkpoint commits to
    yet."""

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
    recent = LogEntry.objects.filter(index__gte=size - RECENT).count()
    whole = last == size and recent == min(size, RECENT)
    return LogHealth(
        size,
        newest.at if newest else None,
        checkpoint,
        size - (checkpoint.size if checkpoint else 0),
        whole,
        StoredEvidence.objects.count(),
    )
