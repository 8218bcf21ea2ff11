"""German from the invitation to the receipt: mails, pages and terminal, on real processes, in a real browser
that asks for German. What is looked for is what the catalogue has, so a better word breaks no journey.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.journeys.conftest import OPERATOR
from tests.support import people
from tests.support.installation import NAMED, PASSWORD, Agent, Installation
from translations import catalogues
from translations.spoken import speaking

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

LEAD = "lena@study.example"
HOSPITALS = {"anna@st-anna.example": "St. Anna", "bert@bethanien.example": "Klinik Bethanien"}
GERMAN = {"locale": "de-DE"}
YES = ("--confirm-members", "--accept", "unbounded")


def said(text: str, **reported: object) -> str:
    """The German of a page's text, with what varies filled in."""
    with speaking("de"):
        german = catalogues.words(catalogues.DJANGO)(text)
    assert german != text, f"not in the catalogue: {text}"
    return german % reported if reported else german


@dataclass
class Story:
    """What one test hands to the next."""

    lead: Page | None = None
    admins: dict[str, Page] = field(default_factory=dict)
    agents: dict[str, Agent] = field(default_factory=dict)


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    story = Story()
    yield story
    for agent in story.agents.values():
        agent.stop()


def accept(page: Page, installation: Installation, email: str, hospital: str = "") -> None:
    page.goto(installation.invitation(email))
    assert page.locator("html").get_attribute("lang") == "de"
    if hospital:
        page.get_by_label(said("Name of the hospital")).fill(hospital)
    page.get_by_label(said("Password"), exact=True).fill(PASSWORD)
    page.get_by_role("button", name=said("Make my account")).click()
    expect(page.get_by_text(said("Welcome. Your account is ready."))).to_be_visible()


def test_a_lead_and_two_hospitals_are_invited_in_german(
    installation: Installation, browser: Browser, story: Story
) -> None:
    operator = people.new_page(browser)
    people.sign_in(operator, installation, OPERATOR)
    operator.goto(f"{installation.url}/people/invite")
    operator.get_by_label("E-mail address").fill(LEAD)
    operator.get_by_label("Role").select_option("lead")
    operator.get_by_label("Language of the mail").select_option("de")
    operator.get_by_role("button", name="Send the invitation").click()
    story.lead = lead = people.new_page(browser, **GERMAN)
    accept(lead, installation, LEAD)
    assert said("If you did not expect this, delete the mail; nothing happens.") in installation.log("web")
    for number, (email, hospital) in enumerate(HOSPITALS.items(), 1):
        lead.goto(f"{installation.url}/sites/invite")
        lead.get_by_label(said("E-mail address of the hospital's admin")).fill(email)
        lead.get_by_role("button", name=said("Send the invitation")).click()
        expect(
            lead.get_by_text(said("The invitation is on its way to %(email)s.", email=email))
        ).to_be_visible()
        admin = people.new_page(browser, **GERMAN)
        accept(admin, installation, email, hospital)
        command = people.enrolment_command(admin)
        agent = people.agent_of(installation, installation.folder / f"hospital-{number}")
        agent.environment["LC_ALL"] = "de_DE.UTF-8"
        reported = agent.run(*command)
        assert f"Als „{hospital}“" in reported or "registriert" in reported
        expect(admin.get_by_text(said("The agent is connected."))).to_be_visible()
        agent.start()
        rows = agent.folder / "rows.jsonl"
        agent.run(
            "dataset", "synthetic", "--hospital", str(number), "--rows", "120", "--seed", "7", str(rows)
        )
        assert "Veröffentlicht als" in agent.run(
            "dataset", "add", str(rows), "--name", "triage", *NAMED, "--yes"
        )
        story.admins[email], story.agents[email] = admin, agent


def test_a_study_is_read_and_signed_in_german_and_launched(installation: Installation, story: Story) -> None:
    lead = story.lead
    assert lead is not None
    go_on = lead.get_by_role("button", name=said("Save and go on"))
    lead.goto(f"{installation.url}/studies/new")
    lead.get_by_label("Name", exact=True).fill("Triage von Notizen")
    lead.get_by_label(said("Purpose")).fill(
        "Sortiert ein gemeinsames Modell Notizen besser als jedes eigene?"
    )
    go_on.click()
    lead.get_by_label(said("Tokens per text")).fill("32")
    go_on.click()
    for hospital in HOSPITALS.values():
        lead.get_by_role("checkbox", name=re.compile(re.escape(hospital))).check()
    go_on.click()
    lead.get_by_label(said("Method 1, all in the TEE")).check()
    go_on.click()
    go_on.click()
    lead.get_by_label(said("Rounds"), exact=True).fill("1")
    go_on.click()
    lead.get_by_role("button", name=said("Freeze and ask the hospitals")).click()
    asked = lead.get_by_role("heading", name=said("Who has approved it"))
    expect(asked).to_be_visible(timeout=180_000)  # a model is loaded
    shown = lead.locator(".fingerprint").inner_text().replace(" ", "")
    for email, agent in story.agents.items():
        admin = story.admins[email]
        admin.goto(lead.url)
        expect(admin.get_by_role("heading", name="Kurz gesagt")).to_be_visible()
        reported = agent.run("approve", "--yes", "--hash", shown, *YES)
        assert (
            "Was ein Krankenhaus verlässt" in reported
            and "Genehmigt und mit dem Genehmigungsschlüssel" in reported
        )
    lead.get_by_role("button", name=said("Launch")).click(timeout=60_000)
    finished = lead.locator("#live .badge", has_text=said("finished")).first
    expect(finished).to_be_visible(timeout=400_000)


def test_the_receipt_is_german_to_be_printed(installation: Installation, story: Story) -> None:
    admin = story.admins["anna@st-anna.example"]
    admin.goto(f"{installation.url}/studies")
    admin.get_by_role("link", name="Triage von Notizen").first.click()
    admin.get_by_role("link", name=said("Receipts, to print")).click()
    title = said("What left %(site)s for “%(study)s”", site="St. Anna", study="Triage von Notizen")
    expect(admin.get_by_role("heading", name=title)).to_be_visible()
    main = admin.get_by_role("main")
    for text in ("Rows used", "Who approved it at this hospital", "Signed at the hospital", "Attested"):
        expect(main).to_contain_text(said(text))
    assert admin.locator("html").get_attribute("lang") == "de"
