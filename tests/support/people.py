"""What people do in the browser, in their words."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from tests.support.installation import DEVELOPMENT, PASSWORD, Agent, Installation

PATIENCE = 60_000
"""Milliseconds a page may take before a journey fails: it shares two cores with the rest of the suite."""
expect.set_options(timeout=PATIENCE)


def new_page(browser: Browser, **options: object) -> Page:
    """A browser of its own for one person; an error on the page's console fails the journey."""
    context = browser.new_context(**options)  # type: ignore[arg-type]
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.on("pageerror", lambda error: (_ for _ in ()).throw(AssertionError(f"script error: {error}")))
    return page


def sign_in(page: Page, installation: Installation, email: str) -> None:
    page.goto(f"{installation.url}/sign-in")
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="What is going on")).to_be_visible()


def accept_invitation(page: Page, installation: Installation, email: str, hospital: str = "") -> None:
    page.goto(installation.invitation(email))
    if hospital:
        page.get_by_label("Name of the hospital").fill(hospital)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Make my account").click()
    expect(page.get_by_text("Your account is ready")).to_be_visible()


def enrolment_command(page: Page) -> list[str]:
    """Read the command on the hospital's page as a person would copy it; who has just come finds it there.
    It goes on to run the agent; here it ends, and the agent is run apart."""
    *words, goes_on = enrol_and_run(page)
    assert goes_on == "--run", words
    return words


def enrol_and_run(page: Page) -> list[str]:
    """The same with `--run` at its end, as it stands there."""
    command = page.locator("#enrol-python-1").inner_text()
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "site_agent"], command
    return [words[3], DEVELOPMENT, *words[4:]]


def invite_hospital(page: Page, installation: Installation, email: str) -> None:
    page.goto(f"{installation.url}/sites")
    page.get_by_role("link", name="Invite a hospital").first.click()
    page.get_by_label(re.compile("E-mail address")).fill(email)
    page.get_by_role("button", name="Send the invitation").click()
    expect(page.get_by_text("The invitation is on its way")).to_be_visible()


def agent_of(installation: Installation, folder: Path) -> Agent:
    return Agent(folder, dict(installation.environment))
