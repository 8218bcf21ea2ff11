"""Pages in German: all of their words, none of their machinery."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from django.core import mail
from django.test import Client
from django.urls import reverse
from django.utils import translation

from federation.notices import services as notices
from federation.people import resets, services
from federation.people.models import Role, User
from federation.studies.models import Study
from tests.frontend.fullness import live_on
from tests.frontend.gallery import Shown, pages
from translations.spoken import LANGUAGES

SPOKEN = {
    "aria-label", "title", "placeholder", "alt", "data-done", "data-label", "data-title", "data-across",
    "lang", "aria-current", "selected", "checked",
}  # fmt: skip
"""Attributes with words, or which language is chosen; all others are machinery."""
ENGLISH_WORD = re.compile(
    r"\b(the|of|and|is|are|with|for|not|to|from|by|your|its|this|that|has|have|was|at|on|no|which|what)\b"
)
VOID = {"area", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"}
GIVEN = re.compile(
    r"Cardiology letters|^(FedSlice|St\. |python|celery|\{)|@|sha256|[0-9a-f]{32}|for this test|^[\w.\-/]+$",
    re.I,
)
"""What people or machines have written: names of studies and files, commands, hashes, canonical JSON."""


class Reader(HTMLParser):
    """The texts of a page, and its attributes that are no words. Code and scripts are left out, and what is
    marked as English: facts that a machine has recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.machinery: list[tuple[str, str, str]] = []
        self._open: list[tuple[str, bool]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            recorded = tag != "html" and dict(attrs).get("lang") == "en"
            self._open.append((tag, tag in ("pre", "code", "script", "style", "title") or recorded))
        if dict(attrs).get("class") == "term":  # each language has its own words, in its own order
            return
        token = dict(attrs).get("name") == "csrfmiddlewaretoken"
        for name, value in attrs:
            if name in SPOKEN or name == "hx-headers" or (token and name == "value"):
                continue
            # How long a run has lasted, and what a disk holds, move between two looks; a point stays one.
            still = re.sub(r"\d+\.\d+", "0.0", re.sub(r"\d{9,}", "0", value or ""))
            self.machinery.append((tag, name, still))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        text = " ".join(data.split())
        if text and not any(left_out for _tag, left_out in self._open):
            self.texts.append(text)


def read(client: Client, address: str) -> tuple[Reader, str]:
    answer = client.get(address)
    reader = Reader()
    reader.feed(answer.content.decode())
    return reader, answer.headers.get("Content-Language", "")


def clients(people: dict[str, User], shown: Shown) -> tuple[Client, Client]:
    both = Client(headers={"accept-language": "de-DE,de;q=0.9"}), Client()
    for client in both:
        if shown.who:
            client.force_login(people[shown.who])
    return both


def test_every_page_is_german_as_a_whole_and_its_machinery_is_the_same(
    world: dict[str, Any], people: dict[str, User]
) -> None:
    """A number in an attribute keeps its point, an address its words; what is read out is German."""
    english, different = set[str](), set[str]()
    live_on(world)
    for shown in pages(world):
        german, plain = clients(people, shown)
        page, language = read(german, shown.address)
        other, _ = read(plain, shown.address)
        assert language == "de", shown
        for text in set(page.texts) & set(other.texts):
            if ENGLISH_WORD.search(text) and not GIVEN.search(text):
                english.add(f"{shown.name}: {text}")
        found, wanted = page.machinery, other.machinery
        if shown.name == "help":  # in the alphabet of its language
            found, wanted = sorted(found, key=str), sorted(wanted, key=str)
        if found != wanted:
            pairs = zip(found, wanted, strict=False)
            different |= {f"{shown.name}: {one} {two}" for one, two in pairs if one != two}
    assert not english, "\n".join(sorted(english))
    assert not different, "\n".join(sorted(different))


def test_a_german_browser_gets_german_and_says_so(lena: User) -> None:
    german, french = Client(headers={"accept-language": "de-AT"}), Client(headers={"accept-language": "fr"})
    page = german.get("/sign-in").content.decode()
    assert '<html lang="de">' in page and "Anmelden" in page and "Sign in" not in page
    assert '<html lang="en">' in french.get("/sign-in").content.decode()


def test_the_chooser_goes_before_the_browser_and_the_person_before_both(lena: User) -> None:
    client = Client(headers={"accept-language": "de"})
    answer = client.post(reverse("language"), {"language": "en", "next": "/sign-in"})
    assert answer.headers["Location"] == "/sign-in"
    assert '<html lang="en">' in client.get("/sign-in").content.decode()
    client.force_login(lena)
    client.post(reverse("language"), {"language": "de", "next": "/account"})
    elsewhere = Client(headers={"accept-language": "en"})
    elsewhere.force_login(lena)
    assert '<html lang="de">' in elsewhere.get("/account").content.decode()
    elsewhere.post(reverse("language"), {"language": "", "next": "/account"})
    assert '<html lang="en">' in elsewhere.get("/account").content.decode()


@pytest.mark.parametrize("back", ["https://evil.example/", "//evil.example", "javascript:alert(1)", ""])
def test_the_chooser_leads_nowhere_else(back: str, lena: User) -> None:
    answer = Client().post(reverse("language"), {"language": "de", "next": back})
    assert answer.headers["Location"] == "/"


@pytest.mark.parametrize("language", ["tlh", "../de", "de\r\nSet-Cookie: a=b"])
def test_a_language_that_is_none_changes_nothing(language: str, lena: User) -> None:
    client = Client()
    client.force_login(lena)
    client.post(reverse("language"), {"language": language, "next": "/"})
    lena.refresh_from_db()
    assert lena.language == "" and "django_language" not in client.cookies


def test_machines_are_answered_in_english(lena: User) -> None:
    """An agent's API names codes; its words are for logs, and the same everywhere."""
    answers = [
        Client(headers={"accept-language": name}).get("/api/v1/nothing").json() for name in ("de", "en")
    ]
    for answer in answers:
        del answer["reference"]
    assert answers[0] == answers[1] and answers[0]["hint"] == "Check the address."


def test_mails_are_in_their_readers_language(lena: User, alice: User, frozen: Study) -> None:
    User.objects.filter(pk=alice.pk).update(language="de")
    with translation.override("en"):
        notices.send_due()
    by_reader = {message.to[0]: message for message in mail.outbox}
    message = by_reader[alice.email]
    assert "bittet um die Genehmigung" in str(message.subject) and "ist festgeschrieben" in str(message.body)
    others = [message for message in mail.outbox if message.to[0] != alice.email]
    assert all("ist festgeschrieben" not in str(message.body) for message in others)


def test_a_new_password_is_mailed_in_the_language_of_the_last_sign_in(lena: User) -> None:
    User.objects.filter(pk=lena.pk).update(browser_language="de")
    resets.ask(lena.email, "127.0.0.1")
    resets.send_due()
    assert mail.outbox[0].subject == "Ein neues Passwort für FedSlice"


def test_signing_in_remembers_the_pages_language(lena: User) -> None:
    lena.set_password("a long enough password")
    lena.save()
    client = Client(headers={"accept-language": "de"})
    client.post("/sign-in", {"username": lena.email, "password": "a long enough password"})
    lena.refresh_from_db()
    assert (lena.language, lena.browser_language, lena.reads) == ("", "de", "de")


def test_an_invitation_is_in_the_language_that_was_chosen_for_it(olga: User) -> None:
    services.invite(olga, "neu@klinik.example", Role.LEAD, language="de")
    assert mail.outbox[0].subject == "Sie sind zu FedSlice eingeladen"
    assert "Studienleitung" in str(mail.outbox[0].body)
    with translation.override("de"):
        services.invite(olga, "new@hospital.example", Role.LEAD)
    assert mail.outbox[1].subject == "You are invited to FedSlice", "who invites reads English"


def test_the_chooser_names_each_language_in_itself(lena: User) -> None:
    page = Client().get("/sign-in").content.decode()
    assert all(f'lang="{code}"' in page and name in page for code, name in LANGUAGES.items())
