"""News in the browser: a count on every page, read by opening them or all at once."""

from __future__ import annotations

from django.urls import reverse

from federation.notices import inbox
from federation.notices import services as notices
from federation.notices.models import Notice
from federation.people.models import User
from federation.studies.models import Event, Study
from tests.frontend.page_reader import signed_in, text


def test_the_bell_counts_what_is_unread_and_opening_reads_it(frozen: Study, alice: User, bob: User) -> None:
    client = signed_in(alice)
    assert "unread" not in text(client, "/")
    notices.send_due()
    assert ", 1 unread" in text(client, "/") and ", 1 unread" in text(client, reverse("studies"))
    page = text(client, reverse("news"))
    assert (
        "asks for your hospital&#x27;s approval" in page and "site_agent approve" in page and ">new<" in page
    )
    mine = inbox.news_of(alice).get()
    address = reverse("news-open", args=[mine.pk])
    assert signed_in(bob).post(address).status_code == 404 and client.get(address).status_code == 405
    assert ", 1 unread" in text(client, "/")  # looking at the list reads nothing
    assert client.post(address).headers["Location"] == f"/studies/{frozen.pk}"
    assert "unread" not in text(client, "/") and ">new<" not in text(client, reverse("news"))


def test_all_are_read_at_once_and_another_persons_are_not(frozen: Study, alice: User, bob: User) -> None:
    notices.send_due()
    client = signed_in(alice)
    assert client.get(reverse("news-read")).status_code == 405
    assert client.post(reverse("news-read")).status_code == 302
    assert inbox.unread(alice) == 0 and inbox.unread(bob) == 1
    assert "Mark all as read" not in text(client, reverse("news"))


def test_beyond_a_hundred_the_bell_says_that_there_are_more(draft: Study, lena: User) -> None:
    events = Event.objects.bulk_create(Event(study=draft, kind="study.ready") for _ in range(120))
    Notice.objects.bulk_create(Notice(event=event, user=lena) for event in events)
    client = signed_in(lena)
    assert ">99+<" in text(client, "/")
    page = client.get(reverse("news")).context["page"]
    assert len(page.rows) == 50 and page.older


def test_mails_are_chosen_by_topic_in_the_account(lena: User) -> None:
    client, account = signed_in(lena), reverse("account")
    assert text(client, account).count('" checked') == 4
    client.post(reverse("account-mails"), {"topic": ["asked", "ended"]})
    page = text(client, account)
    assert page.count('" checked') == 2 and 'value="asked" checked' in page
    assert notices.unwanted_by(lena) == {"talk", "trouble"}
