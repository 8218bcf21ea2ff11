"""What faults cost a run: `python -m benchmarks.faults [--only NAME,NAME]`.

A whole coordinator on SQLite with real aggregators and simulated hospitals (fleet_runs.py). For each fault a
run of three sites is launched, and when its first round is published the fault strikes: kill -9 of one of the
processes, a Redis that forgets everything, processes that are frozen for a while. The run must finish with
all of its rounds (finishing checks the chain of receipts). `recovery_s` is how much longer it took from there
to its end than the run without a fault, less the time for which something was frozen. Method 1 only.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from redis import Redis

from benchmarks.fleet_runs import consortium_of, socket_of
from tests.jobs.conftest import Consortium
from tests.support import beginnings
from tests.support.installation import Installation

ROUNDS = 3
GOAL = 30.0
FROZEN_SECONDS = 10.0
PROCESSES = {
    "web": "enclave_jobs.asgi:application",
    "worker": "celery --app federation worker",
    "beat": "celery --app federation beat",
    "supervisor": "manage.py supervisor",
    "redis": "redis-server",
    "enclave": "enclave.programs.aggregator",
}


def kill(name: str) -> Callable[[Consortium], float]:
    """kill -9; who watches starts it again."""

    def strike(consortium: Consortium) -> float:
        assert consortium.kill(PROCESSES[name]), f"no process is called {name}"
        return 0.0

    return strike


def freeze(name: str) -> Callable[[Consortium], float]:
    """SIGSTOP, and SIGCONT after a while: what a paging machine looks like."""

    def strike(consortium: Consortium) -> float:
        pids = consortium.pids(PROCESSES[name])
        assert pids, f"no process is called {name}"
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(FROZEN_SECONDS)
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        return FROZEN_SECONDS

    return strike


def flush(consortium: Consortium) -> float:
    """Redis forgets all messages, claims and counters."""
    Redis(unix_socket_path=str(socket_of(consortium.installation))).flushall()
    return 0.0


FAULTS: dict[str, Callable[[Consortium], float]] = {
    **{f"kill_{name}": kill(name) for name in PROCESSES},
    **{f"freeze_{name}": freeze(name) for name in ("web", "worker", "redis")},
    "flush_redis": flush,
}


def struck(consortium: Consortium, group: tuple[str, ...], strike: Callable[[Consortium], float]) -> float:
    """Seconds from the fault to the run's end, less the time of the outage itself."""
    run = consortium.launch(group, rounds=ROUNDS, deadline_seconds=600)
    consortium.start()
    consortium.until(run, 1, "published", seconds=300)
    began = time.monotonic()
    outage = strike(consortium)
    ended = consortium.finished(run, seconds=600)
    assert ended["state"] == "finished", (ended["error_code"], ended["facts"])
    published = [row for row in consortium.rounds(run) if row["state"] == "published"]
    assert len(published) == ROUNDS + 2, "no round was lost"
    return time.monotonic() - began - outage


def tell(name: str, seconds: float, usual: float) -> None:
    """A figure as soon as it is there."""
    config = {"rounds": ROUNDS, "without_fault_s": round(usual, 1), "load": round(os.getloadavg()[0], 1)}
    line = {"figure": f"recovery_s.{name}", "value": round(seconds, 1), "unit": "s", "goal": GOAL}
    print(json.dumps({**line, "better": "lower", "config": config}), flush=True)


def main() -> int:
    """Measure, print the lines and then the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.faults", description=__doc__.split("\n")[0])
    parser.add_argument("--only", default=",".join(FAULTS), help="names of faults, with commas between")
    names = parser.parse_args().only.split(",")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="fs-faults-") as folder:
        os.environ.setdefault("FEDSLICE_TESTS_SHARED", folder)
        model = beginnings.tiny_model()
        place = Installation(Path(folder, "state"), model=str(model))
        place.folder.mkdir()
        place.start()
        try:
            place.manage("register_measurements")
            consortium, groups = consortium_of(place, model, Path(folder), len(names) + 1)
            usual = struck(consortium, groups[0], lambda _consortium: 0.0)
            for name, group in zip(names, groups[1:], strict=True):
                found[name] = struck(consortium, group, FAULTS[name]) - usual
                tell(name, found[name], usual)
            consortium.stop()
        finally:
            place.stop()
    for name, value in found.items():
        sys.stdout.write(f"{name:>18}  {value:8.1f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
