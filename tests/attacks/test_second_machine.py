"""A state folder is copied to a second machine, and both agents run: two real processes with one key.

Before, the copy took jobs and countersigned rosters beside the first, and nobody said so.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from federation.attestation import log
from federation.audit.models import AuditEntry
from federation.people.models import Role
from federation.sites import services as site_services
from federation.sites.models import AgentInstance, Site
from tests.federation.cast import make_person
from tests.support.installation import DEVELOPMENT

pytestmark = pytest.mark.django_db(transaction=True)
SECONDS = 90


class Daemon:
    """`site_agent run` on a folder, and what it says."""

    def __init__(self, folder: Path) -> None:
        self.said = folder.with_suffix(".said")
        with self.said.open("w") as said:
            command = [sys.executable, "-m", "site_agent", "--state", str(folder), "run"]
            self.process = subprocess.Popen(command, stdout=said, stderr=said)

    def says(self, pattern: str) -> bool:
        """Whether it does in time."""
        return until(lambda: re.search(pattern, self.said.read_text()) is not None)

    def end(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait(SECONDS)


def until(true: Any) -> bool:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.2)
    return False


@contextmanager
def running(folder: Path) -> Iterator[Daemon]:
    daemon = Daemon(folder)
    try:
        yield daemon
    finally:
        if daemon.process.poll() is None:
            daemon.end(signal.SIGKILL)


def command(folder: Path, *arguments: str) -> tuple[int, str]:
    whole = [sys.executable, "-m", "site_agent", "--state", str(folder), *arguments]
    done = subprocess.run(whole, capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def folder(live_server: Any, settings: Any, tmp_path: Path) -> Path:
    """The state folder of a hospital that has just enrolled."""
    settings.STATE_DIR = tmp_path / "coordinator"
    settings.STATE_DIR.mkdir()
    settings.DEVELOPMENT_ROOT_DIR = settings.STATE_DIR / "development-root"
    settings.PUBLIC_URL = live_server.url
    site = Site.objects.create(name="St. Anna")
    admin = make_person("admin@hospital.example", Role.SITE_ADMIN, site)
    token = site_services.enrolment_command(admin, site).rsplit(" ", 1)[1]
    words = ("--coordinator", live_server.url, "--log-key", log.key_fingerprint(), "--token", token)
    status, said = command(tmp_path / "first", "enrol", *words, DEVELOPMENT)
    assert status == 0, said
    return tmp_path / "first"


def heard() -> Any:
    return AgentInstance.objects.get().heard_at


def test_of_two_machines_with_one_state_folder_one_works_until_the_site_is_moved(folder: Path) -> None:
    second = folder.with_name("second")
    with running(folder) as first:
        assert first.says("ready for work")
        enrolled = heard()
        assert until(lambda: heard() > enrolled)
        shutil.copytree(folder, second)
        with running(second) as copy:
            assert copy.says(r"\[instance\.elsewhere\]")
        status, said = command(second, "move", "--yes")
        assert status == 1 and "[instance.alive]" in said, said
        first.end(signal.SIGKILL)
    page = Client()
    page.force_login(Site.objects.get().admins.get())
    shown = page.get(reverse("site", args=[Site.objects.get().pk])).content.decode()
    assert "A second machine has this hospital" in shown and "127.0.0.1" in shown
    assert AuditEntry.objects.filter(action="site.second_machine").count() == 1

    killed = heard()
    with running(folder) as first:  # after kill -9, on the same machine: at once
        assert until(lambda: heard() > killed)
        assert "instance." not in first.said.read_text()
        first.end()
    assert heard() is None

    status, said = command(second, "approve")
    assert status == 1 and "[instance.elsewhere]" in said, said
    status, said = command(second, "move")
    assert status == 1 and "[move.needs_terminal]" in said, said
    status, said = command(second, "move", "--yes")
    assert status == 0 and os.uname().nodename in said, said
    status, said = command(folder, "run", "--until-idle")
    assert status == 1 and "[instance.moved]" in said, said
    status, said = command(second, "run", "--until-idle")
    assert status == 0, said
    assert "A second machine" in page.get(reverse("site", args=[Site.objects.get().pk])).content.decode()
