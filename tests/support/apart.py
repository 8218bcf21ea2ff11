"""A coordinator whose processes are started and stopped one by one, as systemd's units and pods are, each
from the code of the version that it is of."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.support.installation import Installation, wait_for

QUEUES = "cpu,enclave,tail,models"
CELERY = [sys.executable, "-m", "celery", "--app", "federation"]


@dataclass
class Apart(Installation):
    """`repository` is the code of what is started next."""

    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def commands(self) -> dict[str, list[str]]:
        uvicorn = [sys.executable, "-m", "uvicorn", "enclave_jobs.asgi:application", "--port", str(self.port)]
        graceful = ["--no-proxy-headers", "--no-access-log", "--timeout-graceful-shutdown", "10"]
        return {
            "web": [*uvicorn, *graceful],
            "worker": [*CELERY, "worker", "--queues", QUEUES, "--concurrency", "2", "--loglevel", "INFO"],
            "beat": [*CELERY, "beat", "--loglevel", "INFO", "--schedule", str(self.folder / "schedule")],
        }

    def start(self) -> None:
        """Web, worker and beat, over a database that is migrated."""
        for name, command in self.commands().items():
            self.begin(name, command, self.environment)
        wait_for(self._answers, 300, "the web process answers")

    def begin(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        """A process of this name."""
        (self.folder / "logs").mkdir(exist_ok=True)
        with (self.folder / "logs" / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command,
                cwd=self.repository,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def supervise(self, name: str, state: Path, address: str) -> None:
        """A supervisor with a state folder of its own; development evidence has one root for all."""
        root = self.folder / "development-root"
        if state != self.folder:
            shutil.copytree(root, state / root.name)
        own = {"FEDSLICE_STATE": str(state), "FEDSLICE_SUPERVISOR": address}
        self.begin(name, [sys.executable, "manage.py", "supervisor"], self.environment | own)

    def _answers(self) -> bool:
        assert self.processes["web"].poll() is None, self.log("web")
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def end(self, *names: str) -> None:
        """SIGTERM, in this order, and wait."""
        for name in names:
            self.processes[name].terminate()
        for name in names:
            process = self.processes.pop(name)
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def becomes(self, repository: Path) -> None:
        """What is started from now on is of this version."""
        self.console.close()
        del self.console
        self.repository = repository

    def stop(self) -> None:
        self.console.close()
        self.end(*reversed(self.processes))
