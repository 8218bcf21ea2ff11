"""Journeys drive a real Chromium against a whole installation: web, worker, beat, supervisor, agents."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.support.beginnings import EMBEDDED
from tests.support.installation import PASSWORD, Installation

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
OPERATOR = "olga@coordinator.example"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Ends with its module: while Playwright's loop runs, Django takes the thread for an asynchronous one."""
    if not Path(CHROMIUM).exists():
        pytest.fail("Chromium is missing: run .ci/install-debian.sh")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
                  "--disable-component-update", "--disable-sync", "--no-first-run"],
        )  # fmt: skip
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A coordinator with its first operator, one base model and the enclave programs' measurements."""
    installation = Installation(tmp_path_factory.mktemp("coordinator"), model=EMBEDDED)
    try:
        installation.start()
        installation.manage("create_operator", "--email", OPERATOR, "--password-stdin", stdin=PASSWORD + "\n")
        installation.manage("register_measurements")
        yield installation
    finally:
        installation.stop()
