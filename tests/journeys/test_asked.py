"""What a hospital and a study's lead say to each other before anything runs, in a real browser: a question, a
wish, a decline; and what a browser goes through meanwhile: a session that ends, a line that is down, a reader
without a mouse, a page that is loaded again. Studies are made and signed by services and command lines; each
test has one of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.journeys.conftest import OPERATOR
from tests.support import beginnings, people, story
from tests.support.installation import PASSWORD, Agent, Installation

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]

LEAD, OFFICER, ADMIN = "lena@study.example", "oda@st-anna.example", "bert@bethany.example"
ANNA, BETHANY = "St. Anna", "Bethany Clinic"
YES = ("--yes", "--confirm-members", "--accept", "unbounded")


@dataclass
class Cast:
    """The installation with its people, and each hospital's agent at the command line (none runs)."""

    installation: Installation
    browser: Browser
    agents: dict[str, Agent]

    def page_of(self, email: str) -> Page:
        page = people.new_page(self.browser)
        people.sign_in(page, self.installation, email)
        return page

    def frozen(self, name: str) -> tuple[str, str]:
        """A study that asks both hospitals: its address and its fingerprint."""
        return tuple(
            story.ask(
                self.installation,
                "lead = User.objects.get(email=email)\n"
                "plan = Plan(model=model, max_tokens=32, rounds=2)\n"
                "study = services.create_study(lead, name=name, purpose='', plan=plan, "
                "datasets=list(Dataset.objects.all()))\n"
                "subject = subject_of(build_manifest(study))\n"
                "job = {'kind': 'freeze', 'state': 'done', 'by': lead, 'study': study, 'subject': subject}\n"
                "ModelJob.objects.create(**job)\n"
                "manifest = services.freeze(lead, study)\n"
                "answer = [f'{settings.PUBLIC_URL}/studies/{study.pk}', manifest.hash]",
                email=LEAD,
                name=name,
                model=str(beginnings.tiny_model()),
            )
        )

    def signs(self, hospital: str, fingerprint: str) -> str:
        return self.agents[hospital].run("approve", "--hash", fingerprint, *YES)


@pytest.fixture(scope="module")
def cast(
    installation: Installation, browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cast]:
    story.ask(
        installation,
        "join(User.objects.get(email=operator), lead, 'lead')\nanswer = None",
        operator=OPERATOR,
        lead=LEAD,
    )
    agents = {}
    for name in (ANNA, BETHANY):
        rows = [
            {"text": f"{name} note {n}: {kind}", "label": kind, "split": split}
            for split, count in (("train", 12), ("test", 6))
            for n in range(count)
            for kind in ("urgent", "routine")
        ]
        agents[name] = story.hospital(installation, tmp_path_factory.mktemp("hospital") / "home", name, rows)
        agents[name].stop()  # it signs at the command line; nothing runs in these tests
    story.ask(
        installation,
        "def colleague(hospital, email, post):\n"
        "    site = Site.objects.get(name=hospital)\n"
        "    people.invite(User.objects.filter(site=site).first(), email, 'site_admin', site, post=post)\n"
        "    token = re.search(r'/invitations/([^/\\s]+)/', str(mail.outbox[-1].body)).group(1)\n"
        "    people.accept_invitation(token, password=PASSWORD)\n"
        "colleague(anna, officer, 'officer')\ncolleague(bethany, admin, '')\nanswer = None",
        anna=ANNA,
        officer=OFFICER,
        bethany=BETHANY,
        admin=ADMIN,
    )
    yield Cast(installation, browser, agents)


def close(*pages: Page) -> None:
    for page in pages:
        page.context.close()


def test_an_officer_asks_the_lead_changes_and_the_officer_reads_what_differs_and_approves(cast: Cast) -> None:
    address, before = cast.frozen("Triage, in talks")
    officer, lead = cast.page_of(OFFICER), cast.page_of(LEAD)
    officer.get_by_role("link", name="Approve “Triage, in talks”").click()
    officer.get_by_label("Your message").fill("Why two rounds?\n<b>One</b> would do.")
    officer.get_by_role("button", name="Ask", exact=True).click()
    expect(officer.locator(".said-text")).to_have_text("Why two rounds?\n<b>One</b> would do.")

    lead.goto(cast.installation.url)
    lead.get_by_role("link", name="Answer St. Anna in “Triage, in talks”").click()
    lead.get_by_label("To", exact=True).select_option(label=ANNA)
    lead.get_by_label("Your message").fill("One is too few for a curve; three are better still.")
    lead.get_by_role("button", name="Answer", exact=True).click()
    expect(lead.locator(".said-text").last).to_contain_text("three are better")

    officer.goto(cast.installation.url)
    officer.get_by_role("link", name="Read the answer in “Triage, in talks”").click()
    officer.get_by_label("Your message").fill("Then three, please, and say so.")
    officer.get_by_role("button", name="Ask for changes").click()
    expect(officer.get_by_role("main")).to_contain_text("The study is a draft: its lead changes it.")

    lead.goto(address)
    expect(lead.locator(".said-text").last).to_contain_text("Then three, please")
    lead.get_by_role("link", name="Change", exact=True).click()
    lead.get_by_role("button", name="Training").click()
    lead.get_by_label("Rounds", exact=True).fill("3")
    lead.get_by_role("button", name="Review").click()
    lead.get_by_role("button", name="Freeze and ask the hospitals").click()
    expect(lead.get_by_role("heading", name="Who has approved it")).to_be_visible(timeout=120_000)

    officer.goto(address)
    changed = officer.get_by_role("region", name="What is different from what you approved before")
    expect(changed).to_contain_text("Compared with what your hospital asked to change")
    row = changed.get_by_role("row").filter(has_text="Training: Rounds").first
    expect(row.get_by_role("cell").nth(1)).to_contain_text("2")
    expect(row.get_by_role("cell").nth(2)).to_contain_text("3")
    shown = officer.locator(".fingerprint").inner_text().replace(" ", "")
    assert shown != before
    officer.get_by_role("button", name="I have read it and approve").click()
    expect(officer.get_by_text("That is not yet binding").first).to_be_visible()
    cast.signs(ANNA, shown)
    expect(lead.get_by_role("row", name=ANNA).get_by_text("signed", exact=True)).to_be_visible()
    close(officer, lead)


def test_a_hospital_declines_with_a_reason_and_can_come_back(cast: Cast) -> None:
    address, fingerprint = cast.frozen("Triage, declined")
    admin, lead = cast.page_of(ADMIN), cast.page_of(LEAD)
    admin.goto(address)
    admin.get_by_role("button", name="Decline").click()  # without a reason nothing is sent
    expect(admin.get_by_label("Your message")).to_be_focused()
    expect(admin.locator(".said")).to_have_count(0)
    admin.get_by_label("Your message").fill("Our ethics board has not met.")
    admin.get_by_role("button", name="Decline").click()
    expect(admin.get_by_text("Your hospital has declined the study.")).to_be_visible()

    lead.goto(address)
    expect(lead.get_by_text("Bethany Clinic has declined the study.")).to_be_visible()
    expect(lead.locator(".said")).to_contain_text("Our ethics board has not met.")
    expect(lead.get_by_role("row", name=BETHANY)).to_contain_text("declined")
    declined = "DECLINED: your hospital has declined this"
    asked = cast.agents[BETHANY].run("approve", "--hash", fingerprint, expect=1)
    assert declined in asked and "Our ethics board" not in asked

    admin.get_by_label("Your message").fill("It has, and agrees.")
    admin.get_by_role("button", name="Take part after all").click()
    expect(admin.get_by_text("Your hospital has declined the study.")).to_have_count(0)
    assert declined not in cast.signs(BETHANY, fingerprint)
    close(admin, lead)


def test_a_session_that_ends_in_mid_form_keeps_what_was_typed_and_leads_back(cast: Cast) -> None:
    address, _fingerprint = cast.frozen("Triage, interrupted")
    officer, lead = cast.page_of(OFFICER), cast.page_of(LEAD)
    lead.goto(address)  # a live page: it renews a part of itself
    officer.goto(address)
    officer.get_by_label("Your message").fill("A long question,\nwritten slowly.")
    cast.installation.shell(
        "from django.contrib.sessions.models import Session\nSession.objects.all().delete()"
    )
    officer.get_by_role("button", name="Ask", exact=True).click()
    expect(officer.get_by_role("heading", name="You are signed out")).to_be_visible()
    expect(officer.get_by_label("Text")).to_have_value("A long question,\nwritten slowly.")
    officer.get_by_role("main").get_by_role("link", name="Sign in").click()
    signs_in(officer, OFFICER)
    expect(officer).to_have_url(address)
    expect(officer.locator(".said")).to_have_count(0)
    # The live page goes to sign in as a whole, and comes back to where it was.
    expect(lead.get_by_role("heading", name="Sign in")).to_be_visible()
    expect(lead.get_by_role("heading", name="Who has approved it")).to_have_count(0)
    signs_in(lead, LEAD)
    expect(lead).to_have_url(address)
    close(officer, lead)


def signs_in(page: Page, email: str) -> None:
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()


def test_without_a_network_a_form_stays_as_it_is_and_goes_once_there_is_one(cast: Cast) -> None:
    address, _fingerprint = cast.frozen("Triage, offline")
    officer, lead = cast.page_of(OFFICER), cast.page_of(LEAD)
    lead.goto(address)
    officer.goto(address)
    for page in (officer, lead):
        page.context.set_offline(True)
    officer.get_by_label("Your message").fill("Written in the lift.")
    officer.get_by_role("button", name="Ask", exact=True).click()
    for page in (officer, lead):
        expect(page.get_by_text("The coordinator does not answer.")).to_be_visible()
        page.context.set_offline(False)
        expect(page.get_by_text("The coordinator does not answer.")).to_be_hidden()
    expect(officer.get_by_label("Your message")).to_have_value("Written in the lift.")
    officer.get_by_role("button", name="Ask", exact=True).click()
    expect(officer.locator(".said-text")).to_have_text("Written in the lift.")
    close(officer, lead)


def goes_to(wanted: Locator) -> None:
    """Tab after tab, until this has the focus; and the eye can see that it has."""
    page = wanted.page
    expect(wanted).to_be_visible()
    for _press in range(150):
        page.keyboard.press("Tab")
        if wanted.evaluate("element => element === document.activeElement"):
            break
    expect(wanted).to_be_focused()
    outline = wanted.evaluate("element => getComputedStyle(element).outlineStyle")
    assert outline != "none", f"no outline on {wanted}"


def test_with_the_keyboard_alone_from_signing_in_to_an_approval_and_a_launch(cast: Cast) -> None:
    address, fingerprint = cast.frozen("Triage, by keys")
    officer = people.new_page(cast.browser)
    by_keys(officer, cast.installation, OFFICER)
    goes_to(officer.get_by_role("link", name="Approve “Triage, by keys”"))
    officer.keyboard.press("Enter")
    goes_to(officer.locator("summary", has_text="All of it, in detail"))  # opens by a key
    officer.keyboard.press("Enter")
    expect(officer.get_by_role("heading", name="Training")).to_be_visible()
    goes_to(officer.get_by_role("button", name="I have read it and approve"))
    officer.keyboard.press("Space")
    expect(officer.get_by_text("That is not yet binding").first).to_be_visible()

    for hospital in (ANNA, BETHANY):
        cast.signs(hospital, fingerprint)
    lead = people.new_page(cast.browser)
    by_keys(lead, cast.installation, LEAD)
    goes_to(lead.get_by_role("link", name="Launch “Triage, by keys”"))
    lead.keyboard.press("Enter")
    expect(lead).to_have_url(address)
    goes_to(lead.get_by_role("button", name="Launch"))
    lead.keyboard.press("Enter")
    expect(lead.locator("#live")).to_be_visible()
    close(officer, lead)


def by_keys(page: Page, installation: Installation, email: str) -> None:
    page.goto(f"{installation.url}/sign-in")
    for label, text in (("E-mail address", email), ("Password", PASSWORD)):
        field = page.get_by_label(label)
        if not field.evaluate("element => element === document.activeElement"):  # the first has it already
            goes_to(field)
        page.keyboard.type(text)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="What is going on")).to_be_visible()


def test_a_copied_enrolment_command_survives_that_its_page_is_loaded_again(
    cast: Cast, tmp_path_factory: pytest.TempPathFactory
) -> None:
    email = "clara@clara.example"
    story.ask(
        cast.installation,
        "join(User.objects.get(email=lead), email, 'site_admin', 'St. Clara')\nanswer = None",
        lead=LEAD,
        email=email,
    )
    admin = cast.page_of(email)
    admin.get_by_role("link", name="Connect your hospital's agent").first.click()
    admin.get_by_role("button", name="Show the command").click()
    copied = people.enrolment_command(admin)
    admin.reload()
    expect(admin.locator("#enrol-python-1")).to_be_visible()
    again = cast.page_of(email)  # another browser of the same person
    again.goto(admin.url)
    assert people.enrolment_command(admin) == people.enrolment_command(again) == copied
    agent = people.agent_of(cast.installation, tmp_path_factory.mktemp("clara") / "state")
    agent.run(*copied)
    expect(admin.get_by_text("The agent is connected.")).to_be_visible()
    close(admin, again)
