"""Terminal, browser, mail and officer's sheet say the same of a manifest, of whatever kind it is."""

from __future__ import annotations

import html
import re
from typing import Any

import msgspec
import pytest
from django.template.loader import render_to_string
from django.test import Client
from django.urls import reverse

from contracts.agents_api.datasets import Card
from contracts.canonical import canonical
from contracts.manifest import Manifest, Release, parse
from enclave_jobs.runs.models import Contribution, Round, Run
from federation.notices.texts import text_of
from federation.people.models import User
from federation.studies.models import Event, Study
from manifest_summary.facts import Fact
from manifest_summary.leaving import release
from manifest_summary.short import in_short
from manifest_summary.summary import summary
from site_agent.datasets.catalogue import Dataset
from site_agent.letters import letter
from site_agent.manifest_text import describe
from tests.federation.cast import Hospital, make_dataset
from tests.manifest_summary.test_summary import KINDS

RULES = ("nothing", "serve-only", "sealed-to-sites", "export")
NOT_SERVED = "tagged words"
NAMES = [
    f"{kind}, {rule}"
    for n, kind in enumerate(KINDS)
    for rule in (RULES[(n + k) % len(RULES)] for k in range(3))
    if (kind, rule) != (NOT_SERVED, "serve-only")
]
"""Each kind with three of the rules, so that each rule meets most kinds."""
NOTES = "ward notes 2024"


def words(text: str) -> str:
    """Text as it is read: without tags, entities and line ends; words that lead to the glossary are words."""
    text = re.sub(r'<a class="term"[^>]*>(.*?)</a>', r"\1", text)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())


class Reader:
    """Alice of St. Anna, whose dataset each manifest names, and the places where she reads."""

    def __init__(self, study: Study, alice: User, anna: Hospital, client: Client) -> None:
        self.study, self.alice, self.anna, self.client = study, alice, anna, client
        self.dataset = make_dataset(anna.site, NOTES)
        self.run = Run.objects.create(study=study, manifest="{}", manifest_hash="0" * 64, state="finished")
        round = Round.objects.create(run=self.run, number=1)
        Contribution.objects.create(round=round, site=anna.site)
        client.force_login(alice)

    def show(self, name: str) -> Manifest:
        """The manifest that this name stands for, frozen in the study and run by its run."""
        kind, _, rule = name.rpartition(", ")
        found, site = KINDS[kind], self.anna.site
        own = msgspec.structs.replace(
            found.sites[0],
            id=site.pk,
            name=site.name,
            dataset=msgspec.structs.replace(
                found.sites[0].dataset, id=self.dataset.pk, digest="0" * 64, rows=60
            ),
        )
        members = tuple(sorted((own, *found.sites[1:]), key=lambda member: member.id))
        found = msgspec.structs.replace(
            found,
            run=self.run.pk,
            sites=members,
            # What is served has a bound on its answers, too.
            release=Release(rule, 2, 500 if rule == "serve-only" and found.method == "method-2" else 0),  # type: ignore[arg-type]
        )
        text = canonical(found)
        for row in (self.study, self.run):
            row.manifest, row.manifest_hash = parse(text) and text.decode(), found.hash
            row.save()
        return found

    def terminal(self, manifest: Manifest) -> str:
        card = Card(60, {}, {"train": 40}, {}, 5)
        here = Dataset(NOTES, "", (), "0" * 64, card, 0, self.dataset.pk)
        return words(describe(manifest, here, self.anna.site.pk))

    def page(self, name: str, *arguments: str) -> str:
        answer = self.client.get(reverse(name, args=arguments), follow=True)
        assert answer.status_code == 200
        return words(answer.content.decode())

    def places(self, manifest: Manifest) -> dict[str, str]:
        asked = Event(study=self.study, kind="study.approving")
        mail = render_to_string("notices/mail.txt", {"text": text_of(asked, self.alice), "event": asked})
        return {
            "terminal": self.terminal(manifest),
            "room": self.page("study", self.study.pk),
            "officer's sheet": self.page("site-receipts-of-run", self.anna.site.pk, self.run.pk),
            "mail": words(mail),
        }


@pytest.fixture
def reader(frozen: Study, alice: User, anna: Hospital, client: Client) -> Reader:
    return Reader(frozen, alice, anna, client)


def unsaid(text: str, facts: Any) -> list[Fact]:
    """The facts of which the name or the value does not stand in the text."""
    return [fact for fact in facts if words(fact.name) not in text or words(fact.value) not in text]


def test_every_place_states_the_same_facts_of_every_kind_of_manifest(reader: Reader) -> None:
    assert len(NAMES) >= 20
    for name in NAMES:
        manifest = reader.show(name)
        short = in_short(manifest, reader.anna.site.pk, NOTES).facts
        assert NOTES in short[0].value
        for place, text in reader.places(manifest).items():
            assert unsaid(text, short) == [], (name, place)
            assert ("use no real patients' data" in text) == (manifest.policy.root == "development")


def test_terminal_and_room_say_all_of_the_rest_in_the_same_words(reader: Reader) -> None:
    for name in NAMES[::3]:
        manifest = reader.show(name)
        facts = [fact for section in summary(manifest, (40,)) for fact in section.facts]
        facts = [
            fact for fact in facts if not fact.name.startswith("Epsilon after")
        ]  # by rows that are known
        texts = reader.terminal(manifest), reader.page("study", reader.study.pk)
        assert [unsaid(text, facts) for text in texts] == [[], []], name


@pytest.mark.parametrize("rule", RULES)
def test_who_has_to_sign_before_serving_is_said_where_something_is_served(rule: str) -> None:
    reported = {
        kind: repr(release(msgspec.structs.replace(found, release=Release(rule, 2))))  # type: ignore[arg-type]
        for kind, found in KINDS.items()
    }
    for kind, facts in reported.items():
        serves = rule != "nothing" and KINDS[kind].method == "method-2"
        assert ("before an enclave serves it" in facts) == serves
        assert ("for a release" in facts) == (rule in ("sealed-to-sites", "export"))
        assert ("an enclave answers the hospitals' questions" in facts) == (serves and rule == "serve-only")


def test_neither_letter_to_the_network_s_keepers_says_that_nothing_of_patients_leaves(reader: Reader) -> None:
    page = reader.page("site-connection", reader.anna.site.pk)
    for text in (page, words(letter("example.org", 443, "Open it."))):
        assert "features of patients' texts" in text and "texts and rows themselves never leave" in text
        assert "No patient data leave" not in text
