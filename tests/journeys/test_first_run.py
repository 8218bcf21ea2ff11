"""The main job, as its people do it: enrol, approve, launch, watch, on real processes and in a real browser.

The tests of this file are one story and run in order.
"""

from __future__ import annotations

import csv
import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import safetensors.torch
from playwright.sync_api import Browser, Locator, Page, expect

from contracts.sealed.package import ADAPTER, ADAPTER_CONFIG, README
from tests.journeys.conftest import OPERATOR
from tests.support import people
from tests.support.installation import NAMED, Agent, Installation, wait_for

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

HOSPITALS = {"anna@st-anna.example": "St. Anna", "bert@bethany.example": "Bethany Clinic"}
LEAD = "lena@study.example"


YES = ("--confirm-members", "--accept", "export", "--accept", "unbounded")


@dataclass
class Story:
    """What one test hands to the next."""

    lead: Page | None = None
    admins: dict[str, Page] = field(default_factory=dict)
    agents: dict[str, Agent] = field(default_factory=dict)
    command: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def story(installation: Installation) -> Story:
    story = Story()
    yield story
    for agent in story.agents.values():
        agent.stop()


def test_a_lead_is_invited_and_invites_two_hospitals(
    installation: Installation, browser: Browser, story: Story
) -> None:
    operator = people.new_page(browser)
    people.sign_in(operator, installation, OPERATOR)
    operator.goto(f"{installation.url}/people")
    operator.get_by_role("link", name="Invite a person").click()
    operator.get_by_label("E-mail address").fill(LEAD)
    operator.get_by_label("Role").select_option("lead")
    operator.get_by_role("button", name="Send the invitation").click()

    story.lead = people.new_page(browser)
    people.accept_invitation(story.lead, installation, LEAD)
    for email in HOSPITALS:
        people.invite_hospital(story.lead, installation, email)


def fingerprint_on(shown: Page | Locator) -> str:
    """What a person would compare, without the spaces."""
    text = shown.locator(".fingerprint").inner_text().replace(" ", "")
    assert re.fullmatch("[0-9a-f]{64}", text)
    return text


def test_a_hospital_enrols_by_one_command_and_its_page_turns_green_by_itself(
    installation: Installation, browser: Browser, story: Story, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for number, (email, hospital) in enumerate(HOSPITALS.items(), 1):
        admin = people.new_page(browser)
        people.accept_invitation(admin, installation, email, hospital)
        expect(admin.get_by_text("Waiting for the agent to enrol")).to_be_visible()
        command = people.enrolment_command(admin)
        agent = people.agent_of(installation, tmp_path_factory.mktemp("hospital"))
        agent.run(*command)
        story.command = command
        # Nobody reloads the page: it renews itself.
        expect(admin.get_by_text("The agent is connected.")).to_be_visible()
        agent.start()
        story.admins[email], story.agents[email] = admin, agent

        rows = agent.folder / "rows.jsonl"
        agent.run(
            "dataset", "synthetic", "--hospital", str(number), "--rows", "120", "--seed", "7", str(rows)
        )
        agent.run("dataset", "add", str(rows), "--name", "triage", *NAMED, "--yes")
        admin.reload()
        expect(admin.get_by_role("link", name="triage")).to_be_visible()


def test_the_enrolment_command_works_only_once(
    installation: Installation, story: Story, tmp_path: Path
) -> None:
    refused = people.agent_of(installation, tmp_path / "second").run(*story.command, expect=1)
    assert "enrolment.token_used" in refused


def test_a_study_is_approved_at_both_hospitals_and_launched(installation: Installation, story: Story) -> None:
    lead = story.lead
    assert lead is not None
    lead.goto(f"{installation.url}/studies/new")
    lead.get_by_label("Name", exact=True).fill("Triage of notes")
    lead.get_by_label("Purpose").fill("Does a shared model sort triage notes better than each of ours?")
    go_on = lead.get_by_role("button", name="Save and go on")
    go_on.click()
    lead.get_by_label("Tokens per text").fill("32")
    go_on.click()
    for hospital in HOSPITALS.values():
        lead.get_by_role("checkbox", name=re.compile(re.escape(hospital))).check()
    # The chart of labels follows the ticks, before anything is saved.
    expect(lead.locator("#overlap")).to_contain_text("Largest skew")
    go_on.click()
    lead.get_by_label("Method 1, all in the TEE").check()
    go_on.click()
    expect(lead.get_by_label("LoRA rank")).to_be_visible()
    trained = lead.locator("#costs .figure").first.inner_text()
    for _press in range(4):
        lead.get_by_label("LoRA rank").press("ArrowRight")
    expect(lead.locator("#costs .figure").first).not_to_have_text(trained)
    lead.get_by_role("button", name="Back").click()
    lead.get_by_role("button", name="Training").click()
    lead.get_by_label("Rounds", exact=True).fill("0")
    lead.get_by_role("button", name="Purpose").click()
    lead.get_by_role("button", name="Training").click()
    expect(lead.get_by_label("Rounds", exact=True)).to_have_value("0")
    lead.get_by_label("Rounds", exact=True).fill("2")
    lead.get_by_label("What may come out").select_option("export")
    go_on.click()
    expect(lead.get_by_role("heading", name="What happens next")).to_be_visible()
    lead.get_by_role("button", name="Freeze and ask the hospitals").click()
    expect(lead.get_by_role("heading", name="Who has approved it")).to_be_visible(
        timeout=120_000
    )  # a model is loaded
    shown = fingerprint_on(lead)

    for email, admin in story.admins.items():
        admin.goto(f"{installation.url}/")
        admin.get_by_role("link", name=re.compile("Approve")).click()
        assert fingerprint_on(admin) == shown
        admin.get_by_role("button", name="I have read it and approve").click()
        expect(admin.get_by_text("That is not yet binding")).to_be_visible()
        refused = story.agents[email].run("approve", "--yes", "--hash", shown, YES[0], expect=1)
        assert "[approval.weak]" in refused and "export" in refused
        words = story.agents[email].run("approve", "--yes", "--hash", shown, *YES)
        assert shown[:8] in words.replace(" ", "")

    # The lead's page notices by itself that both have signed.
    lead.get_by_role("button", name="Launch").click(timeout=30_000)
    lead.get_by_role("link", name="Rounds", exact=True).click()
    expect(lead.get_by_role("heading", name="Curves")).to_be_visible()


def test_the_lead_watches_the_run_until_it_is_finished(installation: Installation, story: Story) -> None:
    lead = story.lead
    assert lead is not None
    expect(lead.locator("#live .badge", has_text="finished").first).to_be_visible(timeout=300_000)
    expect(lead.locator("#live")).to_contain_text("2 / 2")
    expect(lead.locator("#history")).to_contain_text("The closing evaluation is published.")
    # The scores of two hospitals are told to nobody: each could take its own off.
    admin = story.admins["anna@st-anna.example"]
    admin.goto(lead.url)
    for page in (lead, admin):
        expect(page.locator("#live")).to_contain_text("not published: too few hospitals were scored")
        expect(page.locator("[data-metric=accuracy]")).to_be_hidden()


def test_the_record_of_the_run_stands_in_the_log(installation: Installation, story: Story) -> None:
    counts = installation.shell(
        "from collections import Counter\n"
        "from federation.attestation.models import LogEntry\n"
        "print(dict(Counter(LogEntry.objects.values_list('kind', flat=True))))"
    )
    kinds = eval(counts, {})
    assert kinds["approval"] == 2
    assert kinds["receipt"] == 4  # two rounds, the one that closes, and the test
    assert kinds["appraisal"] >= 3

    def stopped() -> bool:
        return not installation.pids("enclave.programs.")

    wait_for(stopped, 60, "all enclaves of the finished run are gone")


def test_the_lead_takes_the_adapter_away_once_both_hospitals_have_signed(story: Story) -> None:
    lead = story.lead
    assert lead is not None
    lead.get_by_role("link", name="Result", exact=True).click()
    lead.get_by_role("link", name="Go there").click()
    release = lead.get_by_role("region", name="Release of the tuned parameters")
    release.get_by_label("to confirm").fill("Triage of notes")
    release.get_by_role("button", name="Ask the hospitals to release").click()
    expect(release).to_contain_text("0 of 2 signatures are there")
    shown = fingerprint_on(release)
    for agent in story.agents.values():
        reported = agent.run("approve", "--yes", "--hash", shown)
        assert shown in reported and "the study's lead downloads the adapter" in reported
    # The section notices the signatures, and then the enclave's answer, by itself.
    with lead.expect_download(timeout=90_000) as download:
        release.get_by_role("button", name="Download the adapter").click(timeout=90_000)
    with zipfile.ZipFile(download.value.path()) as package:
        assert {ADAPTER, ADAPTER_CONFIG, README} <= set(package.namelist())
        assert "lora_A" in str(sorted(safetensors.torch.load(package.read(ADAPTER))))


def test_the_lead_clones_the_study_and_steers_its_run(installation: Installation, story: Story) -> None:
    lead = story.lead
    assert lead is not None
    lead.get_by_role("button", name="Clone").click()
    lead.get_by_label("Name", exact=True).fill("Triage with a higher rank")
    lead.get_by_role("button", name="Save and go on").click()
    lead.get_by_role("button", name="Tuning").click()
    lead.get_by_label("LoRA rank").press("ArrowRight")
    lead.get_by_role("button", name="Training").click()
    lead.get_by_label("Rounds", exact=True).fill("50")  # it does not end before it is paused
    lead.get_by_label("Learning rate over the run").select_option("linear")
    lead.get_by_text("More settings").click()
    lead.get_by_label("Warm-up").fill("10")
    lead.get_by_role("button", name="Save and go on").click()
    expect(lead.get_by_role("main")).to_contain_text("falling in a line to 0, after a warm-up over 10 %")
    lead.get_by_role("button", name="Freeze and ask the hospitals").click()
    asked = lead.get_by_role("heading", name="Who has approved it")
    expect(asked).to_be_visible(timeout=120_000)  # a model is loaded
    shown = fingerprint_on(lead)
    for agent in story.agents.values():
        agent.run("approve", "--yes", "--hash", shown, *YES)
    lead.get_by_role("button", name="Launch").click(timeout=30_000)

    lead.get_by_role("button", name="Pause").click(timeout=60_000)
    expect(lead.locator("#live .badge", has_text="paused").first).to_be_visible()
    lead.get_by_role("button", name="Resume").click()
    expect(lead.get_by_role("button", name="Pause")).to_be_visible()
    cancel = lead.get_by_role("button", name="Cancel the run")
    typed = lead.get_by_label("to confirm")
    typed.fill("Triage")
    expect(cancel).to_be_disabled()
    typed.fill("Triage with a higher rank")
    cancel.click()
    expect(lead.locator("#live .badge", has_text="cancelled").first).to_be_visible()
    expect(lead.locator("#history")).to_contain_text("paused")


def test_the_lead_compares_both_runs_and_takes_the_figures_away(story: Story) -> None:
    lead = story.lead
    assert lead is not None
    lead.get_by_role("link", name="Compare with other runs").click()
    for study in ("Triage of notes", "Triage with a higher rank"):
        lead.get_by_role("checkbox", name=study, exact=True).check()
    lead.get_by_role("button", name="Compare", exact=True).click()
    table = lead.get_by_role("table").first
    for row in ("Rank", "Schedule", "Warm-up"):
        expect(table.get_by_role("rowheader", name=row, exact=True)).to_be_visible()
    with lead.expect_download() as download:
        lead.get_by_role("link", name="Save as CSV").click()
    lines = list(csv.DictReader(download.value.path().open()))
    assert [(line["state"], line["rank"], line["schedule"]) for line in lines] == [
        ("finished", "12", "constant"), ("cancelled", "13", "linear"),
    ]  # fmt: skip
    assert (lines[0]["validation_accuracy"], lines[0]["rounds_published"]) == ("", "2")
