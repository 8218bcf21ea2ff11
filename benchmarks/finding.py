"""How fast things are found: `python -m benchmarks.finding [--small]`.

Server time of the search and of the lists with their filters, as Django's test client sees it, over 1,000
hospitals, 5,000 studies with a run each (a fifth of them points of sweeps), and 1,000,000 entries of the log.
SQLite, or what FEDSLICE_DATABASE names.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from benchmarks import log_pages

T = TypeVar("T")
GOAL_MS = 100.0
ASKED = 7
SWEEP = 25
WORDS = ("triage", "cough", "discharge", "radiology", "referral", "coding", "sepsis", "delirium")


def batched(rows: Iterable[T], size: int) -> Iterator[list[T]]:
    """The rows, so many at a time."""
    left = iter(rows)
    while found := list(islice(left, size)):
        yield found


def fill(sites: int, studies: int, entries: int) -> None:
    """The database. Entries have the columns that are searched, and no tree."""
    from django.db.models import Model
    from django.utils import timezone

    from enclave_jobs.runs.models import Run
    from federation.attestation.models import LogEntry, LogHead
    from federation.datasets.models import Dataset
    from federation.people.models import Role, User
    from federation.sites.models import Site
    from federation.studies.models import Study, Sweep, SweepPoint

    lead = User.objects.create_user("lena@university.example", role=Role.LEAD)
    User.objects.create_user("audrey@authority.example", role=Role.AUDITOR)
    User.objects.create_user("olga@coordinator.example", role=Role.OPERATOR)
    hospitals = Site.objects.bulk_create(
        Site(id=f"{n:012x}", name=f"Hospital {n}", state="active", colour=n) for n in range(sites)
    )
    User.objects.create_user("alice@anna.example", role=Role.SITE_ADMIN, site=hospitals[0])
    card = {"rows": 60, "labels": {}, "splits": {"train": 60}, "text_length": {}, "kind": "text"}
    sets = Dataset.objects.bulk_create(
        Dataset(site=site, name=f"notes {n}", card=card, rows=60, digest=f"{n:064x}")
        for n, site in enumerate(hospitals)
    )
    made = Study.objects.bulk_create(
        Study(name=f"{WORDS[n % len(WORDS)]} {n}", purpose="Which notes are urgent? " * 10, lead=lead,
              state="finished", manifest="{}", manifest_hash=f"{n:064x}")
        for n in range(studies)
    )  # fmt: skip
    uses: type[Model] = Study.datasets.through
    uses.objects.bulk_create(  # type: ignore[attr-defined]
        (
            uses(study_id=study.pk, dataset_id=sets[(n + m) % sites].pk)
            for n, study in enumerate(made)
            for m in range(3)
        ),
        batch_size=2000,
    )
    Run.objects.bulk_create(
        (
            Run(study=study, manifest="{}", manifest_hash=study.manifest_hash, state="finished")
            for study in made
        ),
        batch_size=1000,
    )
    for number, points in enumerate(batched(made[: studies // 5], SWEEP)):
        sweep = Sweep.objects.create(name=f"Ratios {number}", lead=lead)
        SweepPoint.objects.bulk_create(
            SweepPoint(sweep=sweep, study=study, ratio=n + 1, cut=1, select="largest", seed=0)
            for n, study in enumerate(points)
        )
    kinds, now = ("appraisal", "key-release", "roster", "receipt"), timezone.now()
    for batch in batched(range(entries), 20_000):
        LogEntry.objects.bulk_create(
            LogEntry(index=n, kind=kinds[n % 4], at=now, data="x" * 300, leaf_hash=f"{n * 7919:064x}",
                     study=made[n % studies], program="aggregator", verdict="",
                     code="attest.revoked" if n % 977 == 0 else "")
            for n in batch
        )  # fmt: skip
    LogHead.objects.create(pk=1, size=entries)


def visits(entries: int) -> dict[str, str]:
    """Name of the figure → address."""
    middle = f"{entries // 2 * 7919:064x}"
    return {
        "a word": "/search?q=cough", "a hospital": "/search?q=Hospital+77",
        "nothing": "/search?q=nothing+has+this",
        "a sweep": "/search?q=Ratios", "a hash": f"/search?q={middle}", "a code": "/search?q=attest.revoked",
        "a kind": "/search?q=receipt", "a number": f"/search?q={entries // 3}", "studies": "/studies",
        "studies, filtered": "/studies?q=cough&state=finished", "runs": "/runs",
        "runs, filtered": "/runs?q=sepsis&state=finished", "hospitals": "/sites",
        "hospitals, filtered": "/sites?q=77&state=active", "home": "/",
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a hundredth of it, to see that it runs")
    size = (20, 100, 10_000) if parser.parse_args().small else (1000, 5000, 1_000_000)
    with tempfile.TemporaryDirectory() as folder:
        log_pages.set_up(Path(folder))
        fill(*size)
        from django.conf import settings
        from django.test import Client

        settings.SECOND_FACTOR_ROLES = ()

        from federation.people.models import User

        figures: list[dict[str, Any]] = []
        for who in ("olga@coordinator.example", "lena@university.example", "alice@anna.example"):
            client = Client(headers={"host": "127.0.0.1"})
            client.force_login(User.objects.get(email=who))
            for name, address in visits(size[2]).items():
                weight, times, cpu = len(client.get(address).content), [], []
                for _ in range(ASKED):
                    started, spent = time.perf_counter(), time.process_time()
                    client.get(address)
                    times.append(1000 * (time.perf_counter() - started))
                    cpu.append(1000 * (time.process_time() - spent))
                config = {
                    "who": who,
                    "slowest": round(max(times), 1),
                    "cpu": round(statistics.median(cpu), 1),
                    "bytes": weight,
                    "size": size,
                }
                figures.append(
                    {
                        "figure": f"finding {name}",
                        "value": round(statistics.median(times), 1),
                        "unit": "ms",
                        "goal": GOAL_MS,
                        "better": "lower",
                        "config": config,
                    }
                )
    for figure in figures:
        print(json.dumps(figure))
    print(f"\n{size[0]} hospitals, {size[1]} runs, {size[2]} entries, {datetime.now(UTC):%Y-%m-%d}")
    print(f"{'asked':<24}{'who':<28}{'median ms':>10}{'of it CPU':>10}{'slowest':>10}{'page kB':>10}")
    for figure in figures:
        config = figure["config"]
        cells = (figure["value"], config["cpu"], config["slowest"], round(config["bytes"] / 1000))
        print(f"{figure['figure'][8:]:<24}{config['who']:<28}" + "".join(f"{cell:>10}" for cell in cells))


if __name__ == "__main__":
    main()
