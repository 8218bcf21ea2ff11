"""In a real browser, with a real coordinator that demands what it demands by default: what somebody finds who
sits down at a screen after its owner signed out, and what the owner finds again."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from django_otp.oath import totp
from playwright.sync_api import Browser, Page, expect

from tests.journeys.conftest import OPERATOR, browser  # noqa: F401
from tests.support.installation import PASSWORD, Installation
from tests.support.people import new_page

pytestmark = [pytest.mark.browser]
SCREENSHOTS = os.environ.get("FEDSLICE_SCREENSHOTS")


@pytest.fixture(scope="module")
def demanding(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FEDSLICE_SECOND_FACTOR")
        installation = Installation(tmp_path_factory.mktemp("coordinator"))
        try:
            installation.start()
            installation.manage(
                "create_operator", "--email", OPERATOR, "--password-stdin", stdin=PASSWORD + "\n"
            )
            yield installation
        finally:
            installation.stop()


def looked_at(page: Page, name: str) -> None:
    """Draw the page light and dark, wide and narrow, if somebody wants to look at it."""
    if SCREENSHOTS:
        for theme in ("light", "dark"):
            for width in (1280, 360):
                page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
                page.set_viewport_size({"width": width, "height": 800})
                page.screenshot(path=Path(SCREENSHOTS) / f"{name}-{theme}-{width}.png", full_page=True)
        page.set_viewport_size({"width": 1280, "height": 800})


def give_password(page: Page, url: str, password: str = PASSWORD) -> None:
    page.goto(f"{url}/sign-in")
    page.get_by_label("E-mail address").fill(OPERATOR)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def test_an_operator_sets_up_the_second_factor_signs_out_and_leaves_nothing(
    demanding: Installation,
    browser: Browser,  # noqa: F811
) -> None:
    page, url = new_page(browser), demanding.url
    give_password(page, url, "not the password at all")
    expect(page.get_by_role("alert")).to_be_visible()
    give_password(page, url)
    expect(page.get_by_role("heading", name="Set up the second factor")).to_be_visible()
    looked_at(page, "second-factor")
    page.goto(f"{url}/people")
    expect(page.get_by_role("heading", name="Set up the second factor")).to_be_visible()
    page.get_by_text("I cannot scan it").click()
    key = base64.b32decode(page.locator("#secret").inner_text().replace(" ", ""))
    page.get_by_label("Code").fill(f"{totp(key):06d}")
    page.get_by_role("button", name="Turn it on").click()
    recovery_code = page.locator("#codes").inner_text().split()[0]
    page.get_by_role("link", name="I have kept them").click()
    expect(page.get_by_role("heading", name="What is going on")).to_be_visible()

    # Back after signing out, and the address typed again.
    page.goto(f"{url}/people")
    expect(page.get_by_role("heading", name="People")).to_be_visible()
    page.goto(f"{url}/people/invite")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    for _ in range(2):
        page.go_back()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        expect(page.get_by_text(OPERATOR)).to_have_count(0)

    # A form that was open while another tab signed out: nothing is done, and what was typed is there.
    give_password(page, url)
    page.get_by_label("Code").fill(recovery_code)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="What is going on")).to_be_visible()
    page.goto(f"{url}/people/invite")
    page.get_by_label("E-mail address").fill("nora@hospital.example")
    other = page.context.new_page()
    other.goto(url)
    other.get_by_role("button", name="Sign out").click()
    expect(other.get_by_role("heading", name="Sign in")).to_be_visible()
    page.get_by_role("button", name="Send the invitation").click()
    expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()
    expect(page.get_by_label("Email")).to_have_value("nora@hospital.example")
    looked_at(page, "signed-out")
    for _ in range(11):
        give_password(other, url, "a stranger's guess")
    expect(other.get_by_role("alert")).to_contain_text("people.too_many_tries")
    looked_at(other, "too-many-tries")
