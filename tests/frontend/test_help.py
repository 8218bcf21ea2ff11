"""Help: the words that few readers know lead to the glossary from where they stand, once in each section."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import translation

from federation.people.models import User
from frontend.help.linked import APART, SPOKEN, linked
from frontend.help.roles import PAGES
from frontend.help.terms import TERMS
from tests.federation.cast import Hospital
from tests.frontend.fullness import live_on


class Reader(HTMLParser):
    """The texts of a page that can be explained, and the terms that are, by section."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[tuple[str, bool]] = []
        self.sections: list[list[str]] = [["", ""]]
        self.done: list[list[str]] = []
        self.feed(page)
        self.done += self.sections

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        reported = dict(attrs)
        if tag == "section":
            self.sections.append(["", ""])
        if reported.get("class") == "term":
            self.sections[-1][1] += f" {(reported['href'] or '').partition('#')[2]} "
        if tag not in ("br", "img", "input", "hr", "meta", "link"):
            self.open.append((tag, tag in APART or "hx-get" in reported or reported.get("class") in SPOKEN))

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop()[0] != tag:
            pass
        if tag == "section":
            self.done.append(self.sections.pop())

    def handle_data(self, data: str) -> None:
        if not any(apart for _tag, apart in self.open):
            self.sections[-1][0] += data


def unlinked(page: str) -> list[tuple[str, str]]:
    """(term, where) for each that a section with links in it, or any section of a page, says, not links."""
    found = []
    for text, links in Reader(page).done:
        for term in TERMS:
            flags = 0 if term.forms.split("|")[0].isupper() else re.IGNORECASE
            said = re.search(rf"(?<![\w-])(?:{term.forms})(?![\w-])", text, flags)
            if said and f" {term.key} " not in links:
                found.append((term.key, text[max(0, said.start() - 40) : said.end() + 20]))
    return found


MAIN = {
    "study-step method": ("lena", {"enclave"}),
    "study-step tuning": ("lena", {"tee"}),
    "site-receipts": ("alice", {"sealed", "receipt"}),
    "site-evidence": ("audrey", {"measurement"}),
    "references": ("olga", {"measurement"}),
    "collateral": ("olga", {"evidence"}),
    "site": ("alice", {"enclave"}),
    "operations": ("olga", {"sealed"}),
    "operations-kept": ("olga", {"receipt"}),
}


def test_each_term_on_the_main_pages_is_linked(
    world: dict[str, Any], people: dict[str, User], anna: Hospital
) -> None:
    run = live_on(world, rounds=2)
    reported: dict[str, set[str]] = {}
    unsaid: dict[str, list[tuple[str, str]]] = {}
    for name, (who, _wanted) in MAIN.items():
        client = Client()
        client.force_login(people[who])
        step = name.split()
        arguments = [world["draft_id"], step[1]] if step[1:] else [anna.site.pk] if name[:4] == "site" else []
        page = client.get(reverse(step[0], args=arguments)).content.decode()
        main = page[page.index("<main") : page.index("</main>")]
        reported[name] = set(re.findall(rf'class="term" href="{reverse("help")}#([\w-]+)"', main))
        unsaid[name] = unlinked(main)
    client = Client()
    client.force_login(people["alice"])
    room = client.get(reverse("study", args=[run.study_id]), {"hospital": anna.site.pk}).content.decode()
    parts = {
        "in-short": ('aria-labelledby="in-short"', "</section>"),
        "detail": ('id="detail"', "<table"),
        "sheet": ('id="sheet"', "</main>"),
    }
    for name, (begins, ends) in parts.items():
        part = room[room.index(begins) :].partition(ends)[0].partition(">")[2]
        unsaid[name] = unlinked(part)
        assert 'class="term"' in part, name
    assert {name: found for name, found in unsaid.items() if found} == {}
    assert {
        name: reported[name] for name, (_who, wanted) in MAIN.items() if not wanted <= reported[name]
    } == {}


@pytest.mark.parametrize("language", ["en", "de"])
def test_the_glossary_and_a_page_for_each_role_are_there_for_everybody(language: str) -> None:
    client = Client(headers={"accept-language": language})
    page = client.get(reverse("help")).content.decode()
    with translation.override(language):
        for term in TERMS:
            assert f'<dt id="{term.key}">{term.name}</dt>' in page
        for one in PAGES:
            reported = html.unescape(client.get(reverse("help-role", args=[one.key])).content.decode())
            assert str(one.title) in reported and one.does and re.search("<li>", reported)
    assert {one.key for one in PAGES} == {
        "site-admin", "officer", "it", "researcher", "lead", "auditor", "operator"
    }  # fmt: skip
    assert client.get(reverse("help-role", args=["nobody"])).status_code == 404


def test_a_term_is_linked_once_in_a_section_and_never_in_links_headings_code_or_what_people_wrote() -> None:
    page = (
        '<ol class="crumbs"><li>Evidence</li></ol><section><h2>Quorum</h2>'
        "<p>A quorum, a quorum.</p><a>quorum</a></section>"
        '<section><code>TEE</code><p class="said-text">my TEE &lt;b&gt;</p><div hx-get="/x">TEE</div>'
        '<input value="quorum"><p>A <b>TEE</b>; macro-F1: not semi-TEE, tee or MRENCLAVEs</p></section>'
    )
    reported = linked(page)
    assert reported.count('class="term"') == 3
    assert '<p>A <a class="term" href="/help#quorum">quorum</a>, a quorum.</p>' in reported
    assert (
        '<b><a class="term" href="/help#tee">TEE</a></b>' in reported
        and ">macro-F1</a>: not semi-TEE" in reported
    )
    assert re.sub(r'<a class="term"[^>]*>(.*?)</a>', r"\1", reported) == page, "nothing else is changed"
    with translation.override("de"):
        assert linked("<p>versiegelte Belege</p>").count('class="term"') == 2
