"""News in the browser: a count on every page, read by opening them or all at once."""

from __future__ import annotations

from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from federation.notices import inbox
from federation.notices import services as notices
from federation.notices.models import Notice
from federation.people.models import User
from federation.studies.models import Event, Study, Sweep, SweepPoint
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


def test_a_full_page_of_what_asks_for_approval_costs_as_many_questions_as_one(
    frozen: Study, alice: User, lena: User
) -> None:
    notices.send_due()
    client = signed_in(alice)
    with CaptureQueriesContext(connection) as one:
        client.get(reverse("news"))
    studies = Study.objects.bulk_create(
        Study(name=f"{n}", lead=lena, state="approving", manifest_hash=f"{n:064x}") for n in range(9)
    )
    sweep = Sweep.objects.create(name="Ratios", lead=lena)
    SweepPoint.objects.create(sweep=sweep, study=studies[0], ratio=1.0, cut=1, select="largest", seed=0)
    events = Event.objects.bulk_create(Event(study=study, kind="study.approving") for study in studies)
    Notice.objects.bulk_create(Notice(event=event, user=alice) for event in events)
    with CaptureQueriesContext(connection) as ten:
        page = client.get(reverse("news"))
    assert len(page.context["page"].rows) == 10 and "Ratios" in page.content.decode()
    assert len(ten) == len(one)


def test_mails_are_chosen_by_topic_in_the_account(lena: User) -> None:
    client, account = signed_in(lena), reverse("account")
    assert text(client, account).count('" checked') == 4
    client.post(reverse("account-mails"), {"topic": ["asked", "ended"]})
    page = text(client, account)
    assert page.count('" checked') == 2 and 'value="asked" checked' in page
    assert notices.unwanted_by(lena) == {"talk", "trouble"}
