"""One signature of each hospital for a whole sweep, and theirs again before the model of one of its runs
serves: the lead's browser and the hospitals' command lines, on real processes. One story, in order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.journeys.conftest import OPERATOR
from tests.support import beginnings, people, story
from tests.support.installation import Agent, Installation

pytestmark = [pytest.mark.browser, pytest.mark.long, pytest.mark.timeout(600)]

LEAD = "lena@study.example"
HOSPITALS = ("St. Anna", "Bethany Clinic")


@dataclass
class Story:
    """What one test hands to the next."""

    lead: Page
    agents: dict[str, Agent] = field(default_factory=dict)


@pytest.fixture(scope="module")
def scene(
    installation: Installation, browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Story]:
    """A lead with a draft of Method 2, and two hospitals whose agents run."""
    begin = "join(User.objects.get(email=operator), lead, 'lead')\nanswer = None"
    story.ask(installation, begin, operator=OPERATOR, lead=LEAD)
    agents: dict[str, Agent] = {}
    try:
        for name in HOSPITALS:
            rows = [
                {"text": f"{name} note {n}: {kind}", "label": kind, "split": split}
                for split, count in (("train", 12), ("test", 6))
                for n in range(count)
                for kind in ("urgent", "routine")
            ]
            folder = tmp_path_factory.mktemp("hospital") / "home"
            agents[name] = story.hospital(installation, folder, name, rows)
        story.ask(
            installation,
            "lead = User.objects.get(email=email)\n"
            "plan = Plan(model=model, method='method-2', cut=1, max_tokens=16, rounds=1, batch_size=4,"
            " deadline_seconds=60, release='serve-only')\n"
            "services.create_study(lead, name='Ratios', purpose='', plan=plan,"
            " datasets=list(Dataset.objects.all()))\nanswer = None",
            email=LEAD,
            model=str(beginnings.tiny_model()),
        )
        lead = people.new_page(browser)
        people.sign_in(lead, installation, LEAD)
        yield Story(lead, agents)
        lead.context.close()
    finally:
        for agent in agents.values():
            agent.stop()


def fingerprint_on(page: Page) -> str:
    text = page.locator(".fingerprint").first.inner_text().replace(" ", "")
    assert re.fullmatch("[0-9a-f]{64}", text)
    return text


def test_each_hospital_signs_a_sweep_once_and_all_its_runs_are_launched(
    installation: Installation, browser: Browser, scene: Story
) -> None:
    lead = scene.lead
    lead.get_by_role("link", name="Go on with “Ratios”").click()
    lead.get_by_role("link", name="Sweep its ratios").click()
    lead.get_by_label("Name").fill("Two ratios")
    for ratio in ("12.5 %", "25 %", "62.5 %"):
        lead.get_by_role("checkbox", name=ratio, exact=True).uncheck()
    lead.get_by_label("Seeds").fill("")
    lead.get_by_role("button", name="Make the drafts").click()
    lead.get_by_role("button", name="Freeze 2 drafts").click()
    expect(lead.get_by_role("heading", name=re.compile("is tried before|has approved"))).to_be_visible()
    expect(lead.get_by_role("heading", name="Who has approved it")).to_be_visible(timeout=120_000)
    signatures, question = 0, "Nothing of what is typed is lost."
    lead.get_by_label("Your message").fill(question)
    emails = "answer = {u.site.name: u.email for u in User.objects.filter(role='site_admin')}"
    for name, email in story.ask(installation, emails).items():
        admin = people.new_page(browser)
        people.sign_in(admin, installation, email)
        admin.get_by_role("link", name="Approve “Two ratios”").click()
        shown = fingerprint_on(admin)
        admin.get_by_role("button", name="I have read it and approve all 2").click()
        expect(admin.get_by_text("That is not yet binding").first).to_be_visible()
        admin.context.close()
        agent = scene.agents[name]
        said = agent.run("approve", "--yes", "--hash", shown, "--confirm-members", "--accept", "unbounded")
        signatures += said.count("Approved 2 runs by one signature")
        expect(lead.get_by_role("row", name=name)).to_contain_text("all 2")  # nobody reloads the page
    assert signatures == len(HOSPITALS)
    launch = lead.get_by_role("button", name="Launch 2 runs")
    expect(launch).to_be_visible()
    expect(lead.get_by_label("Your message")).to_have_value(question)
    launch.click()
    expect(lead.get_by_text("2 of 2 points are finished")).to_be_visible(timeout=240_000)


def test_its_model_serves_once_both_hospitals_have_signed_that_it_does(
    installation: Installation, scene: Story
) -> None:
    lead, (anna, bethany) = scene.lead, scene.agents.values()
    lead.get_by_role("link", name=re.compile("Ratios · 50 %")).click()
    page_of_run = lead.get_by_role("link", name="The run", exact=True).get_attribute("href") or ""
    run = page_of_run.rsplit("/", 1)[-1]
    serving = lead.get_by_role("region", name="Serving")
    serving.get_by_role("button", name="Ask the hospitals to serve it").click()
    expect(serving).to_contain_text("0 of 2 signatures are there")
    text = ("predict", "--run", run, "--text", "note: urgent", "--json")
    assert "serving" in anna.run(*text, expect=1)  # no click of the lead makes it answer
    shown = serving.locator(".fingerprint").inner_text().replace(" ", "")
    assert "Signed with this site's approval key: serving" in anna.run("approve", "--yes", "--hash", shown)
    expect(serving).to_contain_text("1 of 2 signatures are there", timeout=60_000)
    assert "serving" in anna.run(*text, expect=1)  # nor does one hospital's signature
    bethany.run("approve", "--yes", "--hash", shown)
    assert '"probabilities"' in anna.run(*text)
    heads = serving.get_by_role("columnheader").all_text_contents()
    answered = serving.get_by_role("row", name=HOSPITALS[0]).get_by_role("cell").nth(heads.index("Texts"))
    expect(answered).to_have_text("1")
