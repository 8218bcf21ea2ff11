"""The supervisor process from start to end: one per state folder, with its own development platform."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from django.conf import settings

from attestation.development import create_platform, create_root, install_platform, issue_platform
from attestation.quote import Tee
from contracts.refusal import Refusal
from enclave_jobs.conductor import telling
from enclave_jobs.supervisor.answers import AnswerCache
from enclave_jobs.supervisor.enclaves import Enclaves
from enclave_jobs.supervisor.server import SupervisorServer, publish_address
from federation.sites.services import DEVELOPMENT_RUNTIMES

logger = logging.getLogger(__name__)


def run() -> None:
    """Serve until SIGTERM or SIGINT; the enclaves end with this process, whatever ends it.

    Raises: `supervisor.second` where one runs already for this state folder, and the codes of
    `tls.for_supervisor`.
    """
    folder = settings.STATE_DIR / "supervisor"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _only_one(folder / "lock"):
        platform, answers = development_platform(folder), AnswerCache(folder / "answers")
        enclaves = Enclaves(folder / "enclaves", settings.ENCLAVE_RUNTIMES, platform, telling.over)
        host, port = _listen_on()
        server = SupervisorServer(settings.SUPERVISOR_TOKEN, enclaves, answers, host, port, telling.over)
        closing = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: closing.set())
        threading.Thread(target=server.serve, daemon=True).start()
        # By the name that the certificate proves, not by the number that it stands for.
        publish_address(settings.SUPERVISOR_ADDRESS_FILE, (host, server.address[1]))
        logger.info("the supervisor listens on %s:%d", *server.address)
        try:
            closing.wait()
        finally:
            settings.SUPERVISOR_ADDRESS_FILE.unlink(missing_ok=True)
            server.close()
            enclaves.stop_all()


def development_platform(folder: Path) -> Path | None:
    """This host's development platform, made and certified by the coordinator's own root where the runtime is
    allowed; otherwise None. Made once: its sealing secret must outlive the supervisor."""
    if not set(DEVELOPMENT_RUNTIMES) & set(settings.ENCLAVE_RUNTIMES):
        return None
    platform = folder / "platform"
    create_root(settings.DEVELOPMENT_ROOT_DIR)
    request = create_platform(platform, cast(Tee, settings.DEVELOPMENT_TEE))
    if not (platform / "pck-chain.pem").exists():
        install_platform(platform, issue_platform(settings.DEVELOPMENT_ROOT_DIR, request))
    return platform


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Refusal("supervisor.second") from error
        yield
    finally:
        os.close(descriptor)


def _listen_on() -> tuple[str, int]:
    if not settings.SUPERVISOR_ADDRESS:
        return "127.0.0.1", 0
    host, _, port = settings.SUPERVISOR_ADDRESS.rpartition(":")
    return host, int(port)
