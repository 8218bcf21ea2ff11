"""Journeys drive a real Chromium against a whole installation: web, worker, beat, supervisor, agents."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.support import beginnings
from tests.support.chromium import launch
from tests.support.installation import PASSWORD, Installation

OPERATOR = "olga@coordinator.example"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Ends with its module: while Playwright's loop runs, Django takes the thread for an asynchronous one."""
    with sync_playwright() as playwright:
        chromium = launch(playwright)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def base_model() -> str:
    """The base model that is on offer: a tiny one, as these journeys are not about training."""
    return str(beginnings.tiny_model())


@pytest.fixture(scope="module")
def operator_made() -> bool:
    """Whether the first operator is there from the start."""
    return True


@pytest.fixture(scope="module")
def installation(
    tmp_path_factory: pytest.TempPathFactory, base_model: str, operator_made: bool
) -> Iterator[Installation]:
    """A coordinator with its first operator, one base model and the enclave programs' measurements."""
    installation = Installation(tmp_path_factory.mktemp("coordinator"), model=base_model)
    try:
        installation.start()
        if operator_made:
            made = ("create_operator", "--email", OPERATOR, "--password-stdin")
            installation.manage(*made, stdin=PASSWORD + "\n")
        installation.manage("register_measurements")
        yield installation
    finally:
        installation.stop()
