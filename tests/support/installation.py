"""A coordinator and its hospitals as real processes, in a folder of their own, for journeys and faults."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import httpx

from tests.support import beginnings
from tests.support.beginnings import REPOSITORY as REPOSITORY
from tests.support.console import Console

PASSWORD = "correct horse battery staple"
DEVELOPMENT = "--development-approval-key"
"""Nobody types a passphrase at these hospitals."""
NAMED = ("--text-column", "text", "--label-column", "label", "--keep", "rare-labels")
"""What a script says of a dataset that a person would be asked."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(condition: Callable[[], object], seconds: float, what: str, *, every: float = 0.1) -> object:
    """Poll until `condition` gives something true; the failure names `what`."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds:.0f} s")
        time.sleep(every)


@dataclass
class Installation:
    """`manage.py stack` in a process, and commands beside it with the same environment. `model` is on offer
    from the start; with None the database begins empty, as an operator finds it. `tee` is whose evidence the
    server's development platform makes. `engines` are settings that name a database and a Redis elsewhere."""

    folder: Path
    repository: Path = REPOSITORY
    model: str | None = None
    tee: str = "sgx"
    engines: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "FEDSLICE_STATE": str(self.folder),
            "FEDSLICE_URL": self.url,
            "FEDSLICE_DEVELOPMENT_TEE": self.tee,
            "OMP_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
            **self.engines,
        }

    @cached_property
    def console(self) -> Console:
        return Console(self.repository, self.environment)

    def start(self) -> None:
        database = self.folder / beginnings.DATABASE
        if self.model is not None and not database.exists():
            shutil.copy(beginnings.database(self.model), database)
        log = (self.folder / "stack.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "stack"],
            cwd=self.repository,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        wait_for(self._up, 300, f"the coordinator is up ({self.folder / 'stack.log'})")

    def _up(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError((self.folder / "stack.log").read_text())
        if "FedSlice is up" not in (self.folder / "stack.log").read_text():
            return False
        try:
            return httpx.get(f"{self.url}/sign-in", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self) -> None:
        self.console.close()
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def manage(self, *arguments: str, stdin: str = "") -> str:
        """Run a management command; its words on failure become the assertion's."""
        return self.console.ask(arguments=arguments, stdin=stdin)

    def shell(self, code: str) -> str:
        """Run a few lines with Django set up; what they print comes back."""
        return self.console.ask(code=code).strip()

    def log(self, name: str) -> str:
        path = self.folder / "logs" / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def invitation(self, email: str) -> str:
        """The link in the last invitation of this address."""
        return self.mailed(email, "invitations")

    def mailed(self, email: str, page: str, log: str = "web", seconds: float = 20) -> str:
        """The link to a page in the last mail to this address; the default set-up prints mails to the log
        of the process that sends them."""

        def found() -> str | None:
            mails = self.log(log).split("Content-Type: text/plain")
            for mail in reversed(mails):
                link = re.search(rf"https?://\S+/{page}/\S+", mail)
                if f"To: {email}" in mail and link:
                    return link.group(0)
            return None

        return str(wait_for(found, seconds, f"a mail to {email}"))

    def pids(self, pattern: str) -> list[int]:
        """Processes below the stack whose command line has `pattern`."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue
            if pattern in command and str(self.folder).encode() in environment:
                found.append(int(entry.name))
        return found


@dataclass
class Agent:
    """A hospital's agent, driven by its command line."""

    folder: Path
    environment: dict[str, str]
    repository: Path = REPOSITORY
    daemon: subprocess.Popen[bytes] | None = None

    def run(self, *arguments: str, expect: int = 0) -> str:
        done = subprocess.run(
            self._command(*arguments),
            cwd=self.repository,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == expect, f"exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def start(self, *command: str) -> None:
        """`run`, or another command that goes on like it, in a process of its own."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.folder / "agent.log").open("ab") as log:
            self.daemon = subprocess.Popen(
                self._command(*(command or ("run",))),
                cwd=self.repository,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def stop(self) -> None:
        if self.daemon is not None and self.daemon.poll() is None:
            self.daemon.terminate()
            try:
                self.daemon.wait(30)
            except subprocess.TimeoutExpired:
                self.daemon.kill()
                self.daemon.wait()

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "site_agent", "--state", str(self.folder), *arguments]
