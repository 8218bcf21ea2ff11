"""A study's room: one page on which a hospital reads, asks and decides, and which is the record
afterwards."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from django.test import Client
from django.urls import reverse

from contracts.receipts import SignedReceipt, verify_receipt
from enclave_jobs.releases import services as releases
from enclave_jobs.runs.models import Contribution, Round, Run
from federation.people.models import User
from federation.sites.models import Site
from federation.studies import services
from federation.studies.models import Study, StudyState
from federation.threads.models import Message
from federation.threads.queries import wished
from manifest_summary.explained import explanation
from manifest_summary.summary import summary
from tests.consent.test_one_text import KINDS
from tests.federation.cast import Hospital
from tests.frontend.test_release_section import finished


def seen(user: User, study: Study, query: str = "") -> str:
    client = Client()
    client.force_login(user)
    answer = client.get(reverse("study", args=[study.pk]) + query)
    assert answer.status_code == 200
    return answer.content.decode()


def test_a_yes_in_the_browser_is_called_not_yet_binding_until_the_key_has_signed(
    frozen: Study, lena: User, alice: User, bob: User, anna: Hospital
) -> None:
    assert "not yet binding" not in seen(alice, frozen)
    services.approve_in_browser(alice, frozen, frozen.manifest_hash)
    reported = seen(alice, frozen)
    assert f"{alice.email} has approved in the browser. That is not yet binding." in reported
    assert "I have read it and approve" not in reported and "python -m site_agent approve" in reported
    assert "not yet binding" in seen(lena, frozen) and "not yet binding" in seen(bob, frozen)
    services.sign_approval(anna.as_agent(), frozen.manifest_hash, anna.sign(frozen.manifest_hash))
    assert "not yet binding" not in seen(lena, frozen)


def test_what_waits_names_the_people_it_waits_for(
    frozen: Study, lena: User, alice: User, bob: User, anna: Hospital, barbara: Hospital
) -> None:
    reported = seen(lena, frozen)
    assert f"for {alice.email}" in reported and f"for {bob.email}" in reported
    User.objects.filter(pk=bob.pk).update(is_active=False)
    reported = seen(lena, frozen)
    assert f"for {bob.email}" not in reported and "nobody there has an account yet" in reported
    client = Client()
    client.force_login(lena)
    (item,) = [item for item in client.get("/").context["waiting"] if frozen.name in item["text"]]
    assert f"St. Anna ({alice.email})" in item["detail"] and "St. Barbara" in item["detail"]


@pytest.mark.parametrize(("name", "query"), [("study-approval", ""), ("study-thread", "?about=release")])
def test_older_addresses_lead_to_the_room(frozen: Study, alice: User, name: str, query: str) -> None:
    client = Client()
    client.force_login(alice)
    answer = client.get(reverse(name, args=[frozen.pk]) + query)
    room = reverse("study", args=[frozen.pk])
    assert answer.status_code == 302 and answer.headers["Location"].startswith(room + query)


def test_changes_are_asked_for_before_a_release_and_leave_the_study_as_it_is(
    ready: Study, lena: User, alice: User, anna: Hospital
) -> None:
    run = finished(lena, ready, "export", anna)
    study, state = run.study, run.study.state
    assert "Ask for changes" not in seen(alice, study), "nothing is asked yet"
    releases.ask(lena, run)
    study.refresh_from_db()
    reported = seen(alice, study, "?about=release")
    assert 'value="release" selected' in reported and "Ask for changes" in reported and "Decline" in reported
    client = Client()
    client.force_login(alice)
    said = {
        "kind": "changes", "about": "release", "text": "Seal it to the hospitals instead",
        "manifest_hash": study.manifest_hash,
    }  # fmt: skip
    answer = client.post(reverse("study-thread", args=[study.pk]), said, follow=True)
    assert "Nothing is signed meanwhile" in answer.content.decode()
    study.refresh_from_db()
    assert study.state == state != StudyState.DRAFT
    assert wished(study, anna.site) is None, "the study's own manifest was not asked to change"
    assert Message.objects.get(study=study, kind="changes").about == "release"
    read = seen(lena, study)
    assert "Seal it to the hospitals instead" in read and "asks for changes" in read


def test_afterwards_it_is_the_record_and_a_hospital_sees_its_own_alone(
    ready: Study, lena: User, alice: User, anna: Hospital, barbara: Hospital
) -> None:
    run = finished(lena, ready, "export", anna)
    round = Round.objects.get(run=run)
    for hospital, size in ((anna, 3 << 20), (barbara, 7 << 20)):
        Contribution.objects.create(round=round, site=hospital.site, state="accepted", bytes=size)
    reported = seen(alice, run.study)
    sheet = reverse("study", args=[run.study_id]) + f"?hospital={anna.site.pk}#sheet"
    assert sheet in reported and "3.0 MiB" in reported and "7.0 MiB" not in reported
    own = seen(alice, run.study, f"?hospital={anna.site.pk}")
    assert f"What left {anna.site} for" in own and "Round by round" in own
    assert (
        own.index("In short") < own.index('id="thread"') < own.index('id="record"') < own.index('id="sheet"')
    )
    assert "What left" not in seen(alice, run.study, f"?hospital={barbara.site.pk}"), "another hospital's"
    reported = seen(lena, run.study)
    assert "3.0 MiB" in reported and "7.0 MiB" in reported and "Round by round" not in reported
    assert "What left St. Barbara" in seen(lena, run.study, f"?hospital={barbara.site.pk}")
    assert Site.objects.get(pk=barbara.site.pk).name in reported


def test_the_room_lists_every_receipt_and_of_other_hospitals_only_how_many_counted(
    ready: Study, lena: User, alice: User, bob: User, anna: Hospital
) -> None:
    run = finished(lena, ready, "export", anna)
    round = Round.objects.get(run=run)
    hash = verify_receipt(msgspec.convert(round.receipt, SignedReceipt))
    for user, rows, size in ((lena, 5, 10), (alice, 5, 10), (bob, 0, 0)):
        reported = seen(user, run.study)
        section = reported[reported.index('id="receipts"') :]
        assert hash in section and "Round 1 of" in section and "1 receipt" in section
        line = " ".join(re.sub(r"<[^>]*>", " ", section[section.index("<tbody>") :]).split())
        assert f"1 {rows} {size} B {'3' * 12}… development {hash}" in line, line
    earlier = Run.objects.create(
        study=run.study, manifest=run.manifest, manifest_hash="e" * 64, state="finished"
    )
    Run.objects.filter(pk=earlier.pk).update(created_at=run.created_at - timedelta(days=1))
    signed = {**round.receipt, "receipt": {**round.receipt["receipt"], "run": earlier.pk}}
    Round.objects.create(run=earlier, number=1, state="published", receipt=signed)
    reported = seen(alice, run.study)
    sheet = reverse("site-receipts-of-run", args=[anna.site.pk, earlier.pk])
    assert sheet in reported and reported.count('<details class="pad"') == 2
    assert "Nothing has left a hospital yet" in reported  # no contribution is on record beside the receipts


def test_release_and_serving_are_asked_for_in_the_room_and_count_their_own_signatures(
    ready: Study, lena: User, alice: User, anna: Hospital
) -> None:
    run = finished(lena, ready, "export", anna)
    assert "Ask the hospitals to release" in seen(lena, run.study)
    client = Client()
    client.force_login(lena)
    asked = client.post(reverse("run-release-ask", args=[run.pk]), {"confirm": run.study.name})
    assert asked.headers["Location"] == reverse("study", args=[run.study_id]) + "#release"
    assert "0 of 2 signatures are there" in seen(alice, run.study)


def test_every_word_of_a_manifest_is_explained() -> None:
    plain: set[str] = set()
    for manifest in KINDS.values():
        names: set[Any] = {site.name for site in manifest.sites}
        names |= {reference.program for reference in manifest.policy.references} | set(manifest.model.files)
        reported = {fact.name for section in summary(manifest, (40,)) for fact in section.facts}
        plain |= {name for name in reported - names if not explanation(name)}
    assert plain == set()
