"""The faults that `benchmarks/faults.py` tries: each strikes a run in mid-course."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from redis import Redis

from tests.jobs.conftest import Consortium
from tests.jobs.driver import Hospital
from tests.support.object_storage import ObjectStorage

OUTAGE_SECONDS = 10.0
PROCESSES = {
    "web": "enclave_jobs.asgi:application",
    "worker": "celery --app federation worker",
    "beat": "celery --app federation beat",
    "supervisor": "manage.py supervisor",
    "redis": "redis-server",
    "enclave": "enclave.programs.",
}
STACK = ("web", "worker", "beat", "supervisor")


@dataclass
class Field:
    """Where it strikes. `database` is PostgreSQL's folder."""

    consortium: Consortium
    redis: Redis
    storage: ObjectStorage | None = None
    database: Path | None = None

    def pids(self, name: str) -> list[int]:
        """Of a process of this installation, or of the engines beside it."""
        found = self.consortium.pids(PROCESSES[name])
        if name == "redis" and not found:
            found = [int(self.redis.info("server")["process_id"])]
        assert found, f"no process is called {name}"
        return found

    def hospital(self) -> Hospital:
        """One of the run's."""
        return self.consortium.hospitals[self.consortium.members[0]]


Fault = Callable[[Field], float]
"""Strikes, and returns the seconds for which something was out by the fault's own making."""


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def kill(*names: str, number: int = signal.SIGKILL) -> Fault:
    """Ends these processes at once; who watches starts them again."""

    def strike(field: Field) -> float:
        for name in names:
            _signal(field.pids(name), number)
        return 0.0

    return strike


def freeze(*names: str) -> Fault:
    """SIGSTOP, and SIGCONT after a while: what a paging machine looks like."""

    def strike(field: Field) -> float:
        pids = [pid for name in names for pid in field.pids(name)]
        _signal(pids, signal.SIGSTOP)
        time.sleep(OUTAGE_SECONDS)
        _signal(pids, signal.SIGCONT)
        return OUTAGE_SECONDS

    return strike


def again_and_again(name: str) -> Fault:
    """Killed whenever it is up again, for a while."""

    def strike(field: Field) -> float:
        began = time.monotonic()
        while time.monotonic() - began < OUTAGE_SECONDS:
            _signal(field.consortium.pids(PROCESSES[name]), signal.SIGKILL)
            time.sleep(1.0)
        return time.monotonic() - began

    return strike


def flush(field: Field) -> float:
    """Redis forgets all messages, claims and counters."""
    field.redis.flushall()
    return 0.0


def flush_often(field: Field) -> float:
    """It forgets them whenever there are some."""
    began = time.monotonic()
    while time.monotonic() - began < OUTAGE_SECONDS:
        field.redis.flushall()
        time.sleep(0.2)
    return OUTAGE_SECONDS


def flush_and_kill_worker(field: Field) -> float:
    """Both at once: nobody remembers what was being done."""
    _signal(field.pids("worker"), signal.SIGKILL)
    return flush(field)


def hospital_restarts(field: Field) -> float:
    """An agent ends and comes back after a while; in Method 1 as another instance of its client slice."""
    hospital = field.hospital()
    hospital.stop()
    time.sleep(OUTAGE_SECONDS)
    hospital.start()
    return OUTAGE_SECONDS


def lease_lost(field: Field) -> float:
    """An agent takes its next job, forgets it, and asks again."""
    hospital, left = field.hospital(), list[str]()

    def hook(job: dict[str, object]) -> str | None:
        if left:
            return None
        left.append(str(job["id"]))
        return "leave"

    for kind in ("train", "countersign", "evaluate"):
        hospital.hooks[kind] = hook
    return 0.0


def second_beat(field: Field) -> float:
    """Two clocks for a while: every sweep comes twice."""
    place = field.consortium.installation
    schedule = str(place.folder / "second-schedule")
    command = [sys.executable, "-m", "celery", "--app", "federation", "beat", "--schedule", schedule]
    log = (place.folder / "second-beat.log").open("ab")
    beat = subprocess.Popen(command, cwd=place.repository, env=place.environment, stdout=log, stderr=log)
    time.sleep(OUTAGE_SECONDS)
    beat.kill()
    beat.wait()
    return 0.0


def storage_away(field: Field) -> float:
    """The bucket answers 503."""
    assert field.storage is not None
    field.storage.away = True
    time.sleep(OUTAGE_SECONDS)
    field.storage.away = False
    return OUTAGE_SECONDS


def database_crashes(field: Field) -> float:
    """kill -9 of a backend: PostgreSQL ends all others, and recovers."""
    _signal(_database(field)[1:2] or _database(field), signal.SIGKILL)
    return 0.0


def database_frozen(field: Field) -> float:
    """Every process of PostgreSQL stands still."""
    pids = _database(field)
    _signal(pids, signal.SIGSTOP)
    time.sleep(OUTAGE_SECONDS)
    _signal(pids, signal.SIGCONT)
    return OUTAGE_SECONDS


def _database(field: Field) -> list[int]:
    """The postmaster first, then backends that serve somebody."""
    assert field.database is not None
    head = int((field.database / "postmaster.pid").read_text().split()[0])
    backends = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            ours = int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == head
            if ours and b"fedslice coordinator" in (entry / "cmdline").read_bytes():
                backends.append(int(entry.name))
    return [head, *backends]


FAULTS: dict[str, Fault] = {
    **{f"kill_{name}": kill(name) for name in PROCESSES},
    **{f"freeze_{name}": freeze(name) for name in PROCESSES},
    **{f"stop_{name}": kill(name, number=signal.SIGTERM) for name in ("web", "worker", "supervisor")},
    "kill_all": kill(*STACK),
    "freeze_all": freeze(*STACK),
    "flapping_worker": again_and_again("worker"),
    "flapping_web": again_and_again("web"),
    "flush_redis": flush,
    "flush_redis_often": flush_often,
    "flush_redis_and_kill_worker": flush_and_kill_worker,
    "hospital_restarts": hospital_restarts,
    "lease_lost": lease_lost,
    "second_beat": second_beat,
}
"""What any installation can be struck by: 25."""
OF_ENGINES: dict[str, Fault] = {
    "storage_away": storage_away,
    "database_crashes": database_crashes,
    "database_frozen": database_frozen,
}
"""And one on PostgreSQL and S3."""
