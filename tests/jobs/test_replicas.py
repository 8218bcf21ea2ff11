"""Two replicas of web and worker that share nothing but PostgreSQL, Redis and storage: a run crosses them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks import faults
from benchmarks.fleet_engines import OnPostgres
from site_agent import leases
from site_agent.transport import Coordinator
from tests.jobs.test_line import start_web
from tests.support.console import Console
from tests.support.installation import REPOSITORY, Installation, free_port, wait_for
from tests.support.instances import HERE

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]
GIVEN = ("log-key.json", "development-root")
"""What each replica is given besides its environment: the log's key; of development platforms, their root."""
OWN = {*GIVEN, "alive", "locale", "web.log", "worker.log"}
"""What a replica's own folder holds: marks that it lives, texts, its log. No blob, database or mailbox."""
SECRETS = {
    "FEDSLICE_SECRET_KEY": "secret-key",
    "FEDSLICE_SECOND_FACTOR_KEY": "second-factor-key",
    "FEDSLICE_SUPERVISOR_TOKEN": "supervisor-token",
    "FEDSLICE_METRICS_TOKEN": "metrics-token",
}
REPORT = """
import json
from enclave_jobs.operations import worker_report
report = worker_report()
print(json.dumps({worker.name: [worker.queues, worker.done] for worker in report.workers}))
"""
OFFER = """
from enclave_jobs.jobs import leases
from enclave_jobs.jobs.models import JobKind
from enclave_jobs.runs.models import Run
run = Run.objects.get(pk={run!r})
leases.offer(run, JobKind.SHARE, "across", round=None, common={{"round": 1}}, sites={{{site!r}: None}})
"""


@dataclass
class Replica:
    """A second machine's web process and worker. The address that people and agents know is the same."""

    folder: Path
    url: str
    console: Console


@contextmanager
def replica(place: Installation, folder: Path) -> Iterator[Replica]:
    folder.mkdir()
    shutil.copy(place.folder / GIVEN[0], folder / GIVEN[0])
    shutil.copytree(place.folder / GIVEN[1], folder / GIVEN[1])
    secrets = {name: (place.folder / file).read_text() for name, file in SECRETS.items()}
    environment = {**place.environment, "FEDSLICE_STATE": str(folder), **secrets}
    web = worker = None
    console, port = Console(REPOSITORY, environment), free_port()
    try:
        web = start_web(environment, port, folder / "web.log")
        command = [sys.executable, "-m", "celery", "--app", "federation", "worker", "--loglevel", "INFO"]
        queues = ["--queues", "cpu,enclave,tail,models", "--concurrency", "1", "--hostname", "second@%h"]
        with (folder / "worker.log").open("ab") as log:
            worker = subprocess.Popen(
                [*command, *queues],
                cwd=REPOSITORY, env=environment, stdout=log, stderr=log,
            )  # fmt: skip
        yield Replica(folder, f"http://127.0.0.1:{port}", console)
    finally:
        console.close()
        for process in (web, worker):
            if process is not None:
                process.terminate()
                process.wait(60)


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every process is told where it is: an address file is one machine's."""
    monkeypatch.setenv("FEDSLICE_SUPERVISOR", f"127.0.0.1:{free_port()}")


@pytest.mark.usefixtures("supervisor")
def test_a_run_crosses_two_replicas_with_working_folders_of_their_own(tmp_path: Path) -> None:
    with faults.installed(tmp_path, engines=True, method="method-1", runs=1) as (field, groups):
        consortium, group = field.consortium, groups[0]
        assert isinstance(consortium, OnPostgres)
        place = consortium.installation
        place.manage("log_key")
        with replica(place, tmp_path / "second") as second:
            workers: dict[str, list[object]] = {}

            def both() -> bool:
                workers.update(json.loads(second.console.ask(code=REPORT)))
                return any(name.startswith("second@") for name in workers) and len(workers) == 2

            wait_for(both, 240, "both workers tell of themselves", every=2)
            # One hospital asks at the first replica, one at the second, one changes at every request.
            consortium.hospitals[group[1]].api.url = second.url
            changing = consortium.hospitals[group[2]].api
            urls, send = [place.url, second.url], changing.send

            def by_turns(method: str, path: str, **options: object) -> object:
                urls.reverse()
                changing.url = urls[0]
                return send(method, path, **options)

            changing.send = by_turns  # type: ignore[assignment,method-assign]
            run = consortium.launch(group, rounds=3, deadline_seconds=600)
            consortium.start()
            ended = consortium.finished(run, seconds=900)
            assert ended["state"] == "finished", (ended["error_code"], ended["facts"])
            assert ended["summary"]["receipts_verified"] == 5
            consortium.stop()

            for log in (place.log("worker"), (second.folder / "worker.log").read_text()):
                assert "enclave_jobs.advance_run" in log, "a worker that took no step of the run"
            _wakes_across(place, second, consortium, run, group[0])
            assert {path.name for path in second.folder.iterdir()} <= OWN
        assert not (place.folder / "blobs").exists() or not any((place.folder / "blobs").glob("??/*"))


def _wakes_across(place: Installation, second: Replica, consortium: OnPostgres, run: str, site: str) -> None:
    """Who waits at the second replica hears at once of a job that the first one offers."""
    key = consortium.hospitals[site].api.key
    agent = Coordinator(second.url, (site, key, HERE), insecure_http=True)
    with ThreadPoolExecutor(1) as later:
        asked = later.submit(leases.ask, agent, 25, 0.0)
        time.sleep(5)
        assert not asked.done()
        offered = time.monotonic()
        place.shell(OFFER.format(run=run, site=site))
        job, _ = asked.result(60)
        assert job is not None and job.kind == "share"
        assert time.monotonic() - offered < 15, "nobody woke it"
