"""The first steps tick themselves by what has been done, and stay until they are done or put away."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from enclave_jobs.runs.services import launch
from federation.attestation.models import Reference, Review, ReviewVote
from federation.audit.services import record
from federation.people import second_factor
from federation.people.models import Authenticator, Invitation, User
from federation.studies import services
from federation.studies.models import Study
from federation.studies.plan import Plan
from frontend.first_steps import first_steps
from tests.federation.cast import MODEL, Hospital, make_dataset
from tests.frontend.page_reader import signed_in, text
from tests.support.proofs import freeze as freeze_tried

pytestmark = pytest.mark.django_db


def ticks(user: User) -> str:
    """`xx>..`: done, done, next, later, later."""
    steps = first_steps(User.objects.get(pk=user.pk))
    return "".join("x" if step.done else ">" if step.next else "." for step in steps)


def test_an_operators_steps_tick_themselves(olga: User, base_model: None, lena: User) -> None:
    assert ticks(olga) == ">x.x."
    Authenticator.objects.create(user=olga, confirmed=True, name="app")
    assert second_factor.is_on(olga) and ticks(olga) == "xx>x."
    gone = Invitation.objects.create(
        email="a@b.example", role="auditor", token_hash="0" * 64, expires=timezone.now() - timedelta(days=1)
    )
    assert ticks(olga) == "xx>x."  # a link that nobody can use any more invites nobody
    Invitation.objects.filter(pk=gone.pk).update(expires=timezone.now() + timedelta(days=1))
    assert ticks(olga) == "xx>xx"


def test_a_lead_invites_hospitals_from_the_list_of_steps_and_comes_back_to_it(
    lena: User, base_model: None, mailoutbox: list[object]
) -> None:
    client = signed_in(lena)
    assert 'name="email"' in client.get("/").content.decode()
    sent = client.post(reverse("site-invite"), {"email": "a@a.example, b@b.example"})
    assert sent.headers["Location"] == "/" and len(mailoutbox) == 2
    page = client.get("/").content.decode()
    assert 'name="email"' not in page and "on its way to b@b.example" in page
    User.objects.filter(pk=lena.pk).update(steps_put_away=True)
    assert client.post(reverse("site-invite"), {"email": "c@c.example"}).headers["Location"] == "/sites"


def test_a_leads_steps_tick_themselves(
    lena: User, ludo: User, anna: Hospital, barbara: Hospital, reference_values: None, base_model: None
) -> None:
    assert ticks(lena) == "x>..."
    sets = [make_dataset(anna.site), make_dataset(anna.site, "more")]
    assert ticks(lena) == "x>..."  # two datasets of one hospital are no federation
    sets[1] = make_dataset(barbara.site)
    assert ticks(lena) == "xx>.."
    study = services.create_study(lena, name="Triage", purpose="x", plan=Plan(model=MODEL), datasets=sets)
    assert ticks(lena) == "xxx>." and ticks(ludo) == "xx>.."
    freeze_tried(lena, study)
    assert ticks(lena) == "xxxx>"
    for hospital in (anna, barbara):
        services.sign_approval(hospital.as_agent(), study.manifest_hash, hospital.sign(study.manifest_hash))
    study.refresh_from_db()
    launch(lena, study)
    assert ticks(lena) == "" and "First steps" not in text(signed_in(lena), "/")


def test_a_hospitals_steps_tick_themselves(frozen: Study, alice: User, anna: Hospital) -> None:
    anna.site.state, anna.site.last_seen = "active", None
    anna.site.save()
    assert ticks(alice) == "x>x.."
    anna.site.last_seen = timezone.now()
    anna.site.save()
    assert ticks(alice) == "xxx>."
    services.approve_in_browser(alice, frozen, frozen.manifest_hash)
    assert ticks(alice) == "xxxx>"
    services.sign_approval(anna.as_agent(), frozen.manifest_hash, anna.sign(frozen.manifest_hash))
    assert ticks(alice) == ""


def test_an_auditors_steps_tick_themselves(audrey: User, olga: User, reference_values: None) -> None:
    User.objects.filter(pk=audrey.pk).update(auditor_confirmed_at=None)
    assert ticks(audrey) == ">...."
    record(olga, "log.exported", "log:1")  # somebody else's
    record(audrey, "evidence.downloaded", "log:1")
    review = Review.objects.create(
        root="development", program="aggregator", measurement="e" * 64, values={}, reason="x", opened_by="x"
    )
    ReviewVote.objects.create(review=review, user=audrey, email=audrey.email, role="auditor", approves=True)
    assert Reference.objects.exists() and ticks(audrey) == ">.xx."


def test_what_is_put_away_stays_away_for_this_person_alone_and_comes_back_from_the_account(
    olga: User, lena: User, ludo: User
) -> None:
    client, steps = signed_in(lena), reverse("account-steps")
    assert "First steps" in text(client, "/") and "again" not in text(client, "/account")
    client.post(steps, {"steps": "away"})
    assert 'id="first-steps"' not in text(client, "/") and 'id="first-steps"' in text(signed_in(ludo), "/")
    assert "Show the first steps again" in text(client, "/account")
    client.post(steps, {"steps": "shown"})
    assert 'id="first-steps"' in text(client, "/")
    assert signed_in(lena).get(steps).status_code == 405


def test_what_stands_in_the_steps_does_not_wait_for_the_person_a_second_time(olga: User) -> None:
    client = signed_in(olga)
    beginning = "Invite an auditor"
    assert text(client, "/").count(beginning) == 1
    client.post(reverse("account-steps"), {"steps": "away"})
    waits = re.search(r'aria-labelledby="waits".*?</section>', text(client, "/"), re.S)
    assert waits is not None and beginning in waits[0]
