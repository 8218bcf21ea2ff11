"""Two supervisors for all runs: placed by room; a killed one takes its own enclaves alone; draining."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from benchmarks.fleet_runs import consortium_of
from contracts.refusal import Refusal
from enclave_jobs.supervisor import client, pool
from enclave_jobs.supervisor.protocol import Room
from tests.jobs.conftest import Consortium
from tests.support import beginnings
from tests.support.installation import REPOSITORY, Installation, free_port, wait_for

GIB = 1 << 30


class Second:
    """Another machine's supervisor: a state folder and a process of its own."""

    def __init__(self, place: Installation, folder: Path, address: str) -> None:
        folder.mkdir()
        shutil.copytree(place.folder / "development-root", folder / "development-root")
        token = (place.folder / "supervisor-token").read_text()
        self.folder = folder
        self.environment = {
            **place.environment,
            "FEDSLICE_STATE": str(folder),
            "FEDSLICE_BLOBS": str(place.folder / "blobs"),
            "FEDSLICE_DATABASE": "",
            "FEDSLICE_SUPERVISOR": address,
            "FEDSLICE_SUPERVISOR_TOKEN": token,
        }
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        log = (self.folder / "supervisor.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "supervisor"],
            cwd=REPOSITORY,
            env=self.environment,
            stdout=log,
            stderr=log,
        )
        return self.process

    def enclaves(self) -> list[int]:
        folder, found = f"{self.folder}/supervisor/enclaves".encode(), []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if folder in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
        return found

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


Pool = tuple[Consortium, list[tuple[str, ...]], Second, str, str]


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    folder = tmp_path_factory.mktemp("pool")
    here, there = (f"127.0.0.1:{free_port()}" for _ in range(2))
    model = beginnings.tiny_model()
    engines = {"FEDSLICE_SUPERVISOR": here, "FEDSLICE_SUPERVISORS": f"{here}, {there}"}
    place = Installation(folder / "state", model=str(model), engines=engines)
    place.folder.mkdir()
    place.start()
    second = Second(place, folder / "second", there)
    try:
        place.manage("register_measurements")
        consortium, groups = consortium_of(place, model, folder, 3)
        yield consortium, groups, second, here, there
        consortium.stop()
    finally:
        second.kill()
        place.stop()


def homes(consortium: Consortium, run: str) -> list[str]:
    query = "select supervisor from enclave_jobs_enclave where run_id = ? order by epoch"
    return [row["supervisor"] for row in consortium.rows(query, run)]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_runs_are_spread_and_a_killed_supervisor_takes_its_own_alone(pooled: Pool) -> None:
    consortium, groups, second, here, there = pooled
    runs: dict[str, tuple[str, ...]] = {}
    for group in groups[:2]:
        run = consortium.launch(group, rounds=3, deadline_seconds=600)
        runs[run] = group
        wait_for(lambda run=run: homes(consortium, run), 120, "the run has a home")
        consortium.start()
    assert {homes(consortium, run)[0] for run in runs} == {here, there}
    mine = next(run for run in runs if homes(consortium, run) == [here])
    other = next(run for run in runs if run != mine)
    consortium.until(other, 1, "published", seconds=300)
    assert second.enclaves()
    second.kill()
    wait_for(lambda: not second.enclaves(), 30, "its enclaves have gone with it")
    assert consortium.finished(mine, 300)["state"] == "finished"
    assert homes(consortium, mine) == [here], "this one lost nothing"
    assert consortium.run(other)["state"] not in ("failed", "finished"), "it waits for its machine"
    second.start()
    ended = consortium.finished(other, 300)
    assert ended["state"] == "finished", (ended["error_code"], ended["facts"])
    assert homes(consortium, other) == [there] * 2, "what it had sealed opens there"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_supervisor_that_is_drained_takes_no_new_run_until_it_may_again(pooled: Pool) -> None:
    consortium, groups, _second, here, there = pooled
    place = consortium.installation
    assert "it can be stopped" in place.manage("drain_supervisor", there)
    run = consortium.launch(groups[2], rounds=2, deadline_seconds=600)
    wait_for(lambda: homes(consortium, run), 120, "the run has a home")
    assert homes(consortium, run) == [here]
    reported = place.manage("drain_supervisor", here, "--no-wait")
    assert "holds 1 enclave; wait" in reported
    assert "takes new runs again" in place.manage("drain_supervisor", there, "--back")
    assert "takes new runs again" in place.manage("drain_supervisor", here, "--back")
    consortium.start()
    assert consortium.finished(run, 300)["state"] == "finished"


ANY = "from enclave_jobs.runs.models import Run; print(Run.objects.exists())"
LEFT_BEHIND = """
from enclave_jobs.enclaves.models import Enclave
from enclave_jobs.runs.models import Run
from enclave_jobs.supervisor import client
run = Run.objects.order_by("created_at").first()
left = Enclave(id="left-behind", run=run, epoch=90, program="aggregator", supervisor={there!r}, state="lost")
left.save()
while not client.start(left.pk, "aggregator", "development"):
    pass
"""
"""Of the oldest run: one that has just ended is still being cleared, and stops what it finds."""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_draining_stops_an_enclave_that_its_run_has_left(pooled: Pool) -> None:
    """As on a machine that was cut off for a while: its run has gone on at another one."""
    consortium, groups, second, _here, there = pooled
    place = consortium.installation
    if "True" not in place.shell(ANY):
        consortium.launch(groups[2], rounds=2, deadline_seconds=600)
    place.shell(LEFT_BEHIND.format(there=there))
    wait_for(lambda: len(second.enclaves()) == 1, 120, "it alone lives there")
    assert "it can be stopped" in place.manage("drain_supervisor", there)
    wait_for(lambda: not second.enclaves(), 120, "it has ended")
    place.manage("drain_supervisor", there, "--back")


ROOMS = {
    "a:1": Room(8 * GIB, ("development",), False, {}),
    "b:1": Room(9 * GIB, ("development", "sgx"), False, {}),
    "c:1": Room(99 * GIB, ("development",), True, {}),
}


@pytest.fixture
def rooms(monkeypatch: pytest.MonkeyPatch, settings: Any, db: None) -> dict[str, Room]:
    given = dict(ROOMS)
    settings.SUPERVISORS = [*given, "away:1"]

    def room(at: str) -> Room:
        if at not in given:
            raise Refusal("supervisor.unreachable")
        return given[at]

    monkeypatch.setattr(client, "room", room)
    return given


def test_the_most_free_memory_decides_among_those_that_can_and_may(rooms: dict[str, Room]) -> None:
    assert pool.place("development") == "b:1"
    rooms["b:1"] = Room(9 * GIB, ("development", "sgx"), False, {"one": GIB // 4, "two": 3 * GIB})
    assert pool.place("development") == "b:1", "what it has loaded is out of the free memory already"
    rooms["b:1"] = Room(9 * GIB, ("development", "sgx"), False, {"one": GIB // 4, "two": 0})
    assert pool.place("development") == "a:1", "what is still loading counts for a gibibyte"
    assert pool.place("sgx") == "b:1"


def test_who_cannot_be_placed_waits_or_hears_why(rooms: dict[str, Room], settings: Any) -> None:
    def code(runtime: str) -> str:
        with pytest.raises(Refusal) as caught:
            pool.place(runtime)
        return caught.value.code

    assert code("tdx") == "supervisor.unreachable", "the one that is away may have it"
    settings.SUPERVISORS = list(ROOMS)
    assert code("tdx") == "supervisor.runtime_unavailable"
    settings.SUPERVISORS = ["c:1"]
    assert code("development") == "supervisor.draining"
    settings.SUPERVISORS = ["away:1"]
    began = time.monotonic()
    assert code("development") == "supervisor.unreachable" and time.monotonic() - began < 5


def test_an_enclave_that_was_just_sent_there_counts_before_it_shows(rooms: dict[str, Room]) -> None:
    from enclave_jobs.enclaves.models import Enclave, EnclaveState
    from tests.jobs.cast import make_scene

    scene = make_scene()
    for number in range(2):
        Enclave.objects.create(
            id=f"new-{number}",
            run=scene.run,
            epoch=10 + number,
            program="aggregator",
            supervisor="b:1",
            state=EnclaveState.STARTING,
        )
    assert pool.place("development") == "a:1"


def test_a_pool_that_is_no_list_of_addresses_is_refused_by_name(tmp_path: Path) -> None:
    environment = {**os.environ, "FEDSLICE_SUPERVISORS": "here:1,there", "FEDSLICE_STATE": str(tmp_path)}
    code = "import federation.settings"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode and "FEDSLICE_SUPERVISORS: there is no host:port" in done.stderr
