"""Two machines with a supervisor and a tail worker each: a run stays with the one that holds its enclaves."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.conftest import Consortium
from tests.support.installation import REPOSITORY, free_port, wait_for

pytestmark = pytest.mark.long  # the line itself: tests/attacks/test_between_machines.py

PLAN = {"method": "method-2", "cut": 1, "attention_ratio": 50.0, "dense_ratio": 50.0, "local_epochs": 4}
TWO = ("anna", "berta")

TELL = """
from celery import current_app
from socket import gethostname
done = current_app.control.{word}("tail", destination=["celery@" + gethostname()], reply=True, timeout=10)
assert done, "the first worker does not answer"
"""


class Machine:
    """A second machine of the coordinator: its own state folder, supervisor and worker for the queue
    `tail`."""

    def __init__(self, consortium: Consortium, folder: Path) -> None:
        installation = consortium.installation
        folder.mkdir()
        # Both belong to one coordinator: one development root, one token, one database, broker, blob folder.
        shutil.copytree(installation.folder / "development-root", folder / "development-root")
        self.folder, self.address = folder, f"127.0.0.1:{free_port()}"
        token = (installation.folder / "supervisor-token").read_text()
        shared = {"FEDSLICE_SUPERVISOR": self.address, "FEDSLICE_SUPERVISOR_TOKEN": token}
        blobs = {"FEDSLICE_STATE": str(folder), "FEDSLICE_BLOBS": str(installation.folder / "blobs")}
        worker = ["-m", "celery", "--app", "federation", "worker", "--queues", "tail", "--concurrency", "1"]
        worker += ["--loglevel", "INFO"]
        self.processes = [
            self._start(["manage.py", "supervisor"], installation.environment | shared | blobs),
            self._start([*worker, "--hostname", "second@%h"], installation.environment | shared),
        ]

    def _start(self, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with (self.folder / "machine.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *command], cwd=REPOSITORY, env=environment, stdout=log, stderr=log
            )

    def ready(self) -> bool:
        log = (self.folder / "machine.log").read_bytes()
        return re.search(rb"second@\S+ ready", log) is not None

    def enclaves(self) -> list[int]:
        """The processes of the enclaves that its supervisor holds."""
        folder, found = f"{self.folder}/supervisor/enclaves".encode(), []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if folder in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
        return found

    def stop(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture(scope="module", autouse=True)
def first() -> Iterator[str]:
    """The address of the first machine's supervisor, set before that machine is started."""
    address = f"127.0.0.1:{free_port()}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDSLICE_SUPERVISOR", address)
        yield address


@contextmanager
def without_tail(consortium: Consortium) -> Iterator[None]:
    """The first machine's worker takes nothing from the queue `tail`."""
    consortium.installation.shell(TELL.format(word="cancel_consumer"))
    try:
        yield
    finally:
        consortium.installation.shell(TELL.format(word="add_consumer"))


def enclaves(consortium: Consortium, run: str) -> list[dict[str, Any]]:
    return consortium.rows("select * from enclave_jobs_enclave where run_id = ? order by epoch", run)


def test_runs_go_to_the_machine_whose_worker_took_them_and_stay_there_after_a_loss(
    first: str, consortium: Consortium, tmp_path: Path
) -> None:
    here = consortium.launch(TWO, **PLAN)
    wait_for(lambda: enclaves(consortium, here), 60, "the first machine takes a run")
    second = Machine(consortium, tmp_path / "second")
    try:
        wait_for(second.ready, 60, "the second machine's worker")
        with without_tail(consortium):
            there = consortium.launch(TWO, **PLAN)
            wait_for(lambda: enclaves(consortium, there), 60, "the second machine takes a run")
        assert [row["supervisor"] for row in enclaves(consortium, here)] == [first]
        assert [row["supervisor"] for row in enclaves(consortium, there)] == [second.address]

        consortium.start()
        consortium.until(there, 2, "collecting", "countersigning", "aggregating", seconds=120)
        for pid in (killed := second.enclaves()):
            os.kill(pid, signal.SIGKILL)
        for run in (here, there):
            ended = consortium.finished(run)
            assert ended["state"] == "finished", (ended["error_code"], ended["facts"])
        assert len(killed) == 1
        assert [row["supervisor"] for row in enclaves(consortium, there)] == [second.address] * 2
        wait_for(lambda: not second.enclaves(), 30, "the second machine's enclave is stopped")
    finally:
        second.stop()
