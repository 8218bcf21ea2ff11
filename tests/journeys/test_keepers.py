"""Those who keep the house: an operator with a second factor, an auditor, and a site admin whose way is not
smooth: an expired link, an agent that cannot get through. And who comes to a screen that its owner has left.
One story on real processes, in order.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from django_otp.oath import totp
from playwright.sync_api import Browser, Page, expect

from tests.journeys.conftest import OPERATOR
from tests.support import people
from tests.support.installation import PASSWORD, Agent, Installation, wait_for

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]

ADMIN, AUDITOR = "anna@st-anna.example", "audrey@authority.example"
ANOTHER = "a staple that no horse has held"


@dataclass
class Story:
    """What one test hands to the next."""

    operator: Page | None = None
    codes: list[str] = field(default_factory=list)
    secret: bytes = b""
    admin: Page | None = None
    agent: Agent | None = None


@pytest.fixture(scope="module")
def story() -> Story:
    story = Story()
    yield story
    if story.agent is not None:
        story.agent.stop()


def give_password(page: Page, installation: Installation, email: str, password: str = PASSWORD) -> None:
    page.goto(f"{installation.url}/sign-in")
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


@pytest.fixture(scope="module", autouse=True)
def demanded() -> Iterator[None]:
    """A coordinator that demands the second factor of its operator, as it does by default."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDSLICE_SECOND_FACTOR", "operator")
        yield


def test_the_operator_sets_up_a_second_factor_and_keeps_the_recovery_codes(
    installation: Installation, browser: Browser, story: Story
) -> None:
    page = people.new_page(browser)
    give_password(page, installation, OPERATOR, "not the password at all")
    expect(page.get_by_role("alert")).to_be_visible()
    give_password(page, installation, OPERATOR)
    for _ in range(2):  # before there is one, no other page is shown
        expect(page.get_by_role("heading", name="Set up the second factor")).to_be_visible()
        page.goto(f"{installation.url}/people")
    page.get_by_text("I cannot scan it").click()
    story.secret = base64.b32decode(page.locator("#secret").inner_text().replace(" ", ""))
    page.get_by_label("Code").fill(f"{totp(story.secret):06d}")
    page.get_by_role("button", name="Turn it on").click()
    story.codes = page.locator("#codes").inner_text().split()
    assert len(story.codes) == 10
    page.get_by_role("link", name="I have kept them").click()
    expect(page.get_by_role("heading", name="What is going on")).to_be_visible()
    story.operator = page


def test_who_sits_down_after_the_owner_signed_out_finds_nothing_by_going_back(
    installation: Installation, story: Story
) -> None:
    page = story.operator
    assert page is not None
    page.goto(f"{installation.url}/people")
    expect(page.get_by_role("heading", name="People")).to_be_visible()
    page.goto(f"{installation.url}/people/invite")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    for _ in range(2):
        page.go_back()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        expect(page.get_by_text(OPERATOR)).to_have_count(0)


def test_from_now_on_the_password_alone_does_not_let_him_in(
    installation: Installation, browser: Browser, story: Story
) -> None:
    page = people.new_page(browser)
    give_password(page, installation, OPERATOR)
    expect(page.get_by_role("heading", name="Your code")).to_be_visible()
    page.goto(f"{installation.url}/operations")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    give_password(page, installation, OPERATOR)
    page.get_by_label("Code").fill(story.codes[0])
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="What is going on")).to_be_visible()
    page.goto(f"{installation.url}/account")
    expect(page.get_by_text("9 recovery codes are left")).to_be_visible()
    story.operator = page


def test_his_page_shows_real_workers_and_a_clock_that_goes(installation: Installation, story: Story) -> None:
    page = story.operator
    assert page is not None
    page.goto(f"{installation.url}/operations")
    expect(page.locator("#workers")).to_contain_text("all well", timeout=40_000)
    expect(page.locator("#workers")).to_contain_text("cpu, enclave, models, tail")
    expect(page.locator("#workers")).to_contain_text("since the last regular check")


def test_an_expired_link_says_so_and_the_operator_sends_another(
    installation: Installation, browser: Browser, story: Story
) -> None:
    operator = story.operator
    assert operator is not None
    people.invite_hospital(operator, installation, ADMIN)
    dead = installation.invitation(ADMIN)
    installation.shell(
        "from django.utils import timezone\n"
        "from federation.people.models import Invitation\n"
        f"Invitation.objects.filter(email='{ADMIN}').update(expires=timezone.now())"
    )
    admin = people.new_page(browser)
    admin.goto(dead)
    expect(admin.get_by_text("This invitation link has expired.")).to_be_visible()
    operator.goto(f"{installation.url}/people")
    row = operator.get_by_role("row", name=re.compile(ADMIN))
    expect(row).to_contain_text("expired")
    row.get_by_role("button", name="Send again").click()
    expect(operator.get_by_text("A new link is on its way")).to_be_visible()
    wait_for(lambda: installation.invitation(ADMIN) != dead, 20, "a mail with another link")
    people.accept_invitation(admin, installation, ADMIN, "St. Anna")
    story.admin = admin


def test_before_the_agent_comes_there_is_a_text_for_the_firewall_team(
    installation: Installation, story: Story
) -> None:
    admin = story.admin
    assert admin is not None
    admin.get_by_role("link", name="Connection").click()
    expect(admin.get_by_role("heading", name="No check yet")).to_be_visible()
    expect(admin.locator("#letter")).to_contain_text(f"TCP port {installation.port}")


def test_a_failed_check_turns_red_in_the_browser_by_itself_and_says_what_to_do(
    installation: Installation, story: Story, tmp_path_factory: pytest.TempPathFactory
) -> None:
    admin = story.admin
    assert admin is not None
    admin.get_by_role("link", name="Overview").click()
    command = people.enrolment_command(admin)
    story.agent = people.agent_of(installation, tmp_path_factory.mktemp("hospital") / "state")
    story.agent.run(*command)
    admin.get_by_role("link", name="Connection", exact=True).click()
    # The keys' folder is open to others: a fault that a hospital really makes.
    story.agent.folder.chmod(0o755)
    reported = story.agent.run("check", expect=1)
    assert "FAIL" in reported and "chmod -R go-rwx" in reported
    row = admin.get_by_role("row", name=re.compile("state folder"))
    expect(row).to_contain_text("failed")
    expect(row).to_contain_text("chmod -R go-rwx")


def test_the_admin_mends_it_asks_again_and_the_row_turns_green(
    installation: Installation, story: Story
) -> None:
    admin, agent = story.admin, story.agent
    assert admin is not None and agent is not None
    agent.folder.chmod(0o700)
    agent.start()
    expect(admin.get_by_role("heading", name="All is ready")).to_be_visible(timeout=60_000)
    admin.get_by_role("button", name="Check again").click()
    expect(admin.get_by_text("the agent is asked to look again", exact=True)).to_be_visible()
    expect(admin.get_by_text("the agent is asked to look again", exact=True)).to_have_count(0, timeout=60_000)


def test_an_agent_whose_coordinator_is_out_of_reach_offers_the_letter_on_its_own_terminal(
    installation: Installation, story: Story, tmp_path: Path
) -> None:
    agent = story.agent
    assert agent is not None
    config = next(path for path in agent.folder.iterdir() if b"coordinator" in _bytes(path))
    kept = config.read_bytes()
    try:
        config.write_bytes(kept.replace(b"127.0.0.1:" + str(installation.port).encode(), b"127.0.0.1:9"))
        reported = agent.run("check", expect=1)
    finally:
        config.write_bytes(kept)
    assert "A text for your network team" in reported and "Destination: 127.0.0.1, TCP port 9" in reported


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def test_the_auditor_finds_who_did_it(installation: Installation, browser: Browser, story: Story) -> None:
    operator = story.operator
    assert operator is not None
    operator.goto(f"{installation.url}/people/invite")
    operator.get_by_label("E-mail address").fill(AUDITOR)
    operator.get_by_label("Role").select_option("auditor")
    operator.get_by_role("button", name="Send the invitation").click()
    auditor = people.new_page(browser)
    people.accept_invitation(auditor, installation, AUDITOR)
    auditor.get_by_role("link", name="Activity").click()
    auditor.get_by_label("Who").fill(OPERATOR)
    auditor.get_by_label("What").select_option("person.")
    auditor.get_by_role("button", name="Show", exact=True).click()
    table = auditor.get_by_role("table")
    expect(table).to_contain_text("sent an invitation again")
    expect(table).not_to_contain_text("named the hospital")
    auditor.get_by_role("link", name="Log", exact=True).click()
    expect(auditor.get_by_role("heading", name="Transparency log")).to_be_visible()
    auditor.get_by_role("link", name="Collateral").click()
    expect(auditor.get_by_role("heading", name="Collateral", exact=True)).to_be_visible()
    # What is the operator's is not the auditor's.
    auditor.goto(f"{installation.url}/operations")
    expect(auditor.get_by_role("heading", name="This is not yours to see")).to_be_visible()


def test_who_forgot_the_password_gets_a_link_and_chooses_another(
    installation: Installation, browser: Browser
) -> None:
    page = people.new_page(browser)
    page.goto(f"{installation.url}/sign-in")
    page.get_by_role("link", name="Password forgotten?").click()
    page.get_by_label("E-mail address").fill(AUDITOR)
    page.get_by_role("button", name="Send me a link").click()
    expect(page.get_by_role("heading", name="Look into your mails")).to_be_visible()
    link = installation.mailed(AUDITOR, "password", log="worker", seconds=60)
    page.goto(link)
    page.get_by_label("New password", exact=True).fill(ANOTHER)
    page.get_by_label("New password, again").fill(ANOTHER)
    page.get_by_role("button", name="Use this password").click()
    expect(page.get_by_text("The new password is in force")).to_be_visible()
    page.goto(link)
    expect(page.get_by_role("heading", name="This link does not work any more")).to_be_visible()

    give_password(page, installation, AUDITOR)
    expect(page.get_by_role("alert")).to_be_visible()
    give_password(page, installation, AUDITOR, ANOTHER)
    expect(page.get_by_role("heading", name="What is going on")).to_be_visible()


def test_a_form_that_was_open_while_another_tab_signed_out_does_nothing_and_keeps_what_was_typed(
    installation: Installation, story: Story
) -> None:
    page = story.operator
    assert page is not None
    page.goto(f"{installation.url}/people/invite")
    page.get_by_label("E-mail address").fill("nora@hospital.example")
    other = page.context.new_page()
    other.goto(installation.url)
    other.get_by_role("button", name="Sign out").click()
    expect(other.get_by_role("heading", name="Sign in")).to_be_visible()
    page.get_by_role("button", name="Send the invitation").click()
    expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()
    expect(page.get_by_label("Email")).to_have_value("nora@hospital.example")
