"""People are told by mail once an event, when it needs them or has ended, and only if they want it."""

from __future__ import annotations

from datetime import timedelta
from smtplib import SMTPServerDisconnected
from typing import Any

import pytest
from django.core import mail
from django.utils import timezone

from enclave_jobs import retention
from enclave_jobs.runs import services as runs
from enclave_jobs.runs.models import Contribution, Round, Run
from enclave_jobs.runs.services import launch
from federation.notices import inbox
from federation.notices import services as notices
from federation.notices.models import Notice, Topic
from federation.notices.texts import brief_of
from federation.people.models import User
from federation.studies.events import apply, note
from federation.studies.models import Event, Study
from tests.federation.cast import Hospital

pytestmark = pytest.mark.django_db


def reported() -> dict[str, list[str]]:
    """Address -> subjects, of the mails since the last question."""
    notices.send_due()
    found: dict[str, list[str]] = {}
    for one in mail.outbox:
        found.setdefault(one.to[0], []).append(one.subject)
    mail.outbox.clear()
    return found


def test_each_hospital_is_asked_once_for_its_approval(
    frozen: Study, alice: User, bob: User, carol: User, lena: User
) -> None:
    asked = "FedSlice: “Triage” asks for your hospital's approval"
    assert reported() == {alice.email: [asked], bob.email: [asked]}
    assert reported() == {}


def test_the_mail_links_to_the_page_and_says_how_to_get_none(frozen: Study, alice: User) -> None:
    notices.send_due()
    body = str(mail.outbox[0].body)
    assert f"/studies/{frozen.pk}" in body and "site_agent approve" in body and "get no such mails" in body


def test_the_lead_is_told_that_all_have_signed(ready: Study, lena: User) -> None:
    assert reported()[lena.email] == ["FedSlice: “Triage” can be launched"]


@pytest.fixture
def run(ready: Study, lena: User, alice: User, bob: User) -> Run:
    run = launch(lena, ready)
    reported()
    return run


def test_the_end_of_a_run_is_told_to_its_lead_and_its_hospitals(
    run: Run, lena: User, alice: User, bob: User, carol: User
) -> None:
    runs.fail(run, "run.no_quorum", {"round": 1, "found": 0, "quorum": 2})
    notices.send_due()
    assert {one.to[0] for one in mail.outbox} == {lena.email, alice.email, bob.email}
    assert "[run.no_quorum]" in str(mail.outbox[0].body)


def test_a_missed_deadline_is_told_to_the_lead_and_to_who_is_missing(
    run: Run, lena: User, bob: User, anna: Hospital, barbara: Hospital
) -> None:
    round = Round.objects.create(run=run, number=1, state="collecting")
    Contribution.objects.create(round=round, site=anna.site, state="submitted")
    Contribution.objects.create(round=round, site=barbara.site)
    note(round, "quorum.awaited", time=1, of=3)
    assert set(reported()) == {lena.email, bob.email}


@pytest.mark.parametrize("rule", ["sealed-to-sites", "export"])
def test_a_release_is_told_to_those_who_must_sign_and_to_those_who_get_something(
    rule: str, run: Run, lena: User, alice: User, bob: User, carol: User
) -> None:
    note(run, "release.asked", rule=rule)
    assert set(reported()) == {alice.email, bob.email}
    note(run, "release.released", rule=rule)
    assert set(reported()) == {lena.email, *([alice.email, bob.email] if rule == "sealed-to-sites" else [])}
    note(run, "release.failed", code="run.state_lost")
    assert set(reported()) == {lena.email}


@pytest.mark.parametrize(("code", "who"), [("model.file_changed", "site"), ("spf.nothing", "lead")])
def test_a_job_that_failed_for_good_is_told_to_who_is_responsible(
    code: str, who: str, run: Run, lena: User, alice: User, anna: Hospital
) -> None:
    from error_catalogue import CATALOGUE

    assert CATALOGUE[code].responsible == who
    note(run, "job.failed", site=anna.site, job="train", code=code, again=True)
    assert reported() == {}
    note(run, "job.failed", site=anna.site, job="train", code=code, again=False)
    assert set(reported()) == {alice.email if who == "site" else lena.email}


def test_who_wants_no_mails_of_a_topic_gets_none_and_can_change_his_mind(
    run: Run, lena: User, alice: User
) -> None:
    notices.choose_mails(lena, ["asked", "trouble", "no such topic"])
    assert notices.unwanted_by(lena) == {"talk", "ended"} and not notices.unwanted_by(alice)
    apply(run, "starting", "cancelled")
    assert lena.email not in reported()
    note(run, "quorum.awaited")
    assert list(reported()) == [lena.email]
    notices.choose_mails(lena, [])
    note(run, "quorum.awaited")
    assert not reported()
    notices.choose_mails(lena, Topic.values)
    note(run, "quorum.awaited")
    assert list(reported()) == [lena.email]


def test_every_kind_of_news_has_one_topic() -> None:
    assert set(notices.TOPICS.values()) == set(Topic) and set(notices.THREADS) < set(notices.KINDS)


def test_news_stand_in_the_browser_for_the_same_people_whether_or_not_they_get_mails(
    run: Run, lena: User, alice: User, bob: User, carol: User
) -> None:
    notices.choose_mails(alice, [])
    before = inbox.unread(alice)
    note(run, "release.asked", rule="export")
    assert set(reported()) == {bob.email}
    for user in (alice, bob):
        (newest, *_older) = inbox.news_of(user)
        assert "asks for the release" in brief_of(newest.event).subject
    assert inbox.unread(alice) == before + 1 and not inbox.news_of(carol)
    assert reported() == {}  # and later neither
    inbox.mark_read(alice, newest.pk)  # Bob's: nothing happens to it
    assert inbox.unread(alice) == before + 1 and Notice.objects.get(pk=newest.pk).read_at is None
    inbox.mark_read(alice)
    assert inbox.unread(alice) == 0 and inbox.unread(bob) > 0


def test_news_are_forgotten_after_their_time_and_do_not_come_again(run: Run, lena: User) -> None:
    note(run, "quorum.awaited")
    notices.send_due()
    assert not inbox.past().exists()
    Event.objects.update(at=timezone.now() - timedelta(days=inbox.KEPT_DAYS + 1))
    assert inbox.past().count() == Notice.objects.count() > 0
    retention.forget()
    assert not Notice.objects.exists() and Event.objects.exists()
    Event.objects.update(at=timezone.now())
    assert notices.send_due() == 0 and not Notice.objects.exists()


def test_a_mail_server_that_fails_is_tried_again_and_not_for_ever(
    run: Run, lena: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: Any, **__: Any) -> None:
        raise SMTPServerDisconnected

    note(run, "quorum.awaited")
    with monkeypatch.context() as patch:
        patch.setattr("federation.notices.services.send_mail", down)
        assert notices.send_due() == 0
    assert list(reported()) == [lena.email]
    Notice.objects.update(sent_at=None, attempts=notices.MAX_ATTEMPTS)
    assert reported() == {}


def test_old_events_are_no_news(run: Run) -> None:
    note(run, "quorum.awaited")
    Event.objects.update(at=timezone.now() - timedelta(days=2))
    assert reported() == {}
