"""What people see when something goes wrong: one hospital runs enclave code that nobody approved, another
goes dark in mid-run. The run goes on without both, and each page says why.

The tests of this file are one story and run in order.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.journeys.conftest import OPERATOR
from tests.support import people, story
from tests.support.beginnings import EMBEDDED
from tests.support.installation import REPOSITORY, Agent, Installation, wait_for

# In `make test` each of these faults has a test without a browser (tests/frontend, tests/jobs).
pytestmark = [pytest.mark.browser, pytest.mark.long, pytest.mark.timeout(600)]

LEAD, AUDITOR = "lena@study.example", "aida@audit.example"
ANNA, BERTA, CARL = "St. Anna", "Berta Clinic", "Carl Infirmary"


@pytest.fixture(scope="module")
def base_model() -> str:
    """One that takes long enough to train for a hospital to go dark in the middle."""
    return EMBEDDED


class Cast:
    """The agents by hospital, and the run."""

    def __init__(self) -> None:
        self.agents: dict[str, Agent] = {}
        self.run = ""


@pytest.fixture(scope="module")
def cast() -> Iterator[Cast]:
    cast = Cast()
    yield cast
    for agent in cast.agents.values():
        agent.stop()


@pytest.fixture(scope="module")
def altered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same release with one line of enclave code changed: what a tampering host would run."""
    copy = tmp_path_factory.mktemp("altered") / "fedslice"
    ignored = shutil.ignore_patterns(".venv", "var", ".git", "__pycache__", ".*_cache", ".hypothesis")
    shutil.copytree(REPOSITORY, copy, ignore=ignored)
    with (copy / "enclave" / "training" / "loop.py").open("a") as file:
        file.write("\n# One line that nobody approved.\n")
    return copy


def rows_of(hospital: str) -> list[dict[str, str]]:
    kinds = {"cardiology": "chest pain and a racing pulse", "neurology": "headache and a numb left hand"}
    # Berta is to go dark while she trains: she has much to train on.
    training = 100 if hospital == BERTA else 12
    return [
        {"text": f"{hospital} note {number}: {text}", "label": label, "split": split}
        for split, count in (("train", training), ("test", 6))
        for number in range(count)
        for label, text in kinds.items()
    ]


def page_of(browser: Browser, installation: Installation, email: str) -> Page:
    page = people.new_page(browser)
    people.sign_in(page, installation, email)
    return page


def test_a_run_goes_on_without_a_hospital_whose_enclave_is_not_the_approved_one(
    installation: Installation,
    browser: Browser,
    cast: Cast,
    altered: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    story.ask(
        installation,
        "op = User.objects.get(email=operator)\n"
        "join(op, lead, 'lead')\njoin(op, auditor, 'auditor')\nanswer = None",
        operator=OPERATOR,
        lead=LEAD,
        auditor=AUDITOR,
    )
    for name in (ANNA, BERTA, CARL):
        folder = tmp_path_factory.mktemp("hospital") / "home"
        cast.agents[name] = story.hospital(installation, folder, name, rows_of(name))
    carl = cast.agents[CARL]
    carl.stop()
    # Only what runs at Carl's is altered: its own `approve` would have named the code that is unknown.
    honest, carl.repository = carl.repository, altered
    carl.start()
    carl.repository = honest

    cast.run = story.launched(
        installation, list(cast.agents.values()), rounds=3, local_epochs=3, quorum=1, deadline_seconds=40
    )
    lead = page_of(browser, installation, LEAD)
    lead.goto(f"{installation.url}/runs/{cast.run}")
    expect(lead.locator("#history")).to_contain_text(f"{CARL} is left out", timeout=120_000)
    expect(lead.locator("#history")).to_contain_text("measurement")
    lead.context.close()


def test_the_auditor_finds_the_unknown_measurement_waiting_for_review(
    installation: Installation, browser: Browser
) -> None:
    auditor = page_of(browser, installation, AUDITOR)
    auditor.goto(f"{installation.url}/references")
    expect(auditor.get_by_role("main")).to_contain_text(CARL)
    auditor.goto(f"{installation.url}/")
    auditor.get_by_role("link", name="Review").first.click()
    expect(auditor.get_by_role("main")).to_contain_text("client_slice")
    auditor.context.close()


def test_a_hospital_that_goes_dark_is_waited_for_by_name_and_then_left_out(
    installation: Installation, browser: Browser, cast: Cast
) -> None:
    lead = page_of(browser, installation, LEAD)
    lead.goto(f"{installation.url}/runs/{cast.run}")
    expect(lead.locator("#live")).to_contain_text("Round", timeout=120_000)
    daemon = cast.agents[BERTA].daemon
    assert daemon is not None
    daemon.kill()
    # The page says whom it waits for, then goes on without: nobody reloads it.
    expect(lead.locator("#live")).to_contain_text("Waiting for Berta Clinic", timeout=120_000)
    expect(lead.locator("#history")).to_contain_text(f"{BERTA} is left out", timeout=120_000)
    lead.context.close()


def test_the_run_ends_with_the_hospital_that_stayed(
    installation: Installation, browser: Browser, cast: Cast
) -> None:
    ended = story.ended(installation, cast.run)
    assert ended["state"] == "finished", ended
    lead = page_of(browser, installation, LEAD)
    lead.goto(f"{installation.url}/runs/{cast.run}")
    expect(lead.locator("#live .badge", has_text="finished").first).to_be_visible()
    expect(lead.locator("#live")).to_contain_text("3 / 3")
    lead.context.close()

    def stopped() -> bool:
        return not installation.pids("enclave.programs.aggregator")

    wait_for(stopped, 60, "the enclave of the finished run is gone")
