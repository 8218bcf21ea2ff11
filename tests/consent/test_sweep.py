"""A sweep is one thing to whoever reads and signs it: one line, one page, one signature."""

from __future__ import annotations

import html
import re
from typing import Any

import msgspec
import pytest
from django.test import Client
from django.urls import reverse

from contracts.manifest import parse
from contracts.policy import SgxReference
from contracts.sweep_tree import SweepTree
from enclave_jobs.runs import sweeps
from enclave_jobs.runs.queries import approvals_given
from enclave_jobs.runs.sweeps import Axes
from federation.attestation import references
from federation.attestation.models import Root
from federation.notices.services import send_due
from federation.people.models import Role, User
from federation.studies import services
from federation.studies.models import Approval, Study, StudyState, Sweep
from federation.studies.plan import Plan
from federation.threads.models import Message
from federation.threads.queries import decline_of
from frontend.sweeps import to_sign
from tests.federation.cast import MODEL, Hospital, make_person
from tests.support.proofs import freeze as freeze_tried
from tests.support.sweeps import approvals_of_sweep


@pytest.fixture
def sweep(draft: Study, lena: User) -> Sweep:
    """Four points, of which each hospital is asked, and at most two results."""
    value = SgxReference(program="split_server", mrenclave=f"{9:064x}")
    references.add(None, value, root=Root.DEVELOPMENT, reason="for this test")
    plan = Plan(model=MODEL, method="method-2", cut=3, rounds=2, batch_size=4, seed=5, release="export")
    services.update_study(
        lena, draft, name=draft.name, purpose=draft.purpose, plan=plan, datasets=draft.datasets.all()
    )
    made = sweeps.create(lena, draft, Axes(ratios=(12.5, 25.0), seeds=(0, 1)), "Ratios", releases=2)
    for point in made.points.select_related("study"):
        freeze_tried(lena, point.study)
    return made


def studies_of(sweep: Sweep) -> list[Study]:
    return list(Study.objects.filter(sweep_point__sweep=sweep))


def sign(sweep: Sweep, hospital: Hospital) -> None:
    """As its agent does: one signature, posted for each point."""
    manifests = [parse((study.manifest or "").encode()) for study in studies_of(sweep)]
    for manifest in manifests:
        keys = {hospital.site.pk: hospital.key}
        given = approvals_of_sweep(manifest, manifests, keys, releases=sweep.releases)
        body = {"manifest_hash": manifest.hash, **msgspec.to_builtins(given[hospital.site.pk])}
        answer = hospital.call("POST", "approvals", body)
        assert answer.status_code == 200, answer.content


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def test_one_signature_of_each_hospital_makes_every_point_ready(
    sweep: Sweep, lena: User, anna: Hospital, barbara: Hospital
) -> None:
    (asked, *others) = anna.call("GET", "approvals").json()
    assert asked["sweep"] == {"id": sweep.pk, "name": "Ratios", "points": 4, "releases": 2}
    assert len(others) == 3
    sign(sweep, anna)
    sign(sweep, barbara)
    studies = studies_of(sweep)
    assert {study.state for study in studies} == {StudyState.READY}
    assert sweeps.launch(lena, sweep) == {}, "each is checked by its path once more"
    for study in studies:
        given = approvals_given(study.runs.get())
        assert {one.sweep.signed.runs for one in given.values() if one.sweep} == {4}
        assert len(given) == 2


def test_the_place_of_another_point_approves_nothing(sweep: Sweep, anna: Hospital) -> None:
    first, second, *_ = [parse((study.manifest or "").encode()) for study in studies_of(sweep)]
    keys = {anna.site.pk: anna.key}
    given = approvals_of_sweep(first, [first], keys)[anna.site.pk]
    body = {"manifest_hash": second.hash, **msgspec.to_builtins(given)}
    answer = anna.call("POST", "approvals", body)
    assert answer.json()["code"] == "approval.not_in_sweep"


def test_it_is_one_line_under_studies_and_under_what_waits(
    sweep: Sweep, lena: User, alice: User, anna: Hospital, barbara: Hospital
) -> None:
    address = reverse("sweep", args=[sweep.pk])
    for user in (lena, alice):
        listed = client_of(user).get(reverse("studies")).content.decode()
        assert listed.count(f'href="{address}"') == 1 and "seed 0" not in listed
        waiting = client_of(user).get(reverse("home")).context["waiting"]
        assert [item["url"] for item in waiting].count(address) == 1
        assert not [item for item in waiting if "seed" in item["text"]]
    sign(sweep, anna)
    waiting = client_of(alice).get(reverse("home")).context["waiting"]
    assert address not in [item["url"] for item in waiting]
    sign(sweep, barbara)
    texts = [item["text"] for item in client_of(lena).get(reverse("home")).context["waiting"]]
    assert "Launch “Ratios”" in texts


def test_the_page_says_what_the_terminal_says_and_under_which_fingerprint(
    sweep: Sweep, alice: User, bob: User, anna: Hospital
) -> None:
    page = client_of(alice).get(reverse("sweep", args=[sweep.pk]))
    reported = to_sign(sweep, anna.site)
    assert reported is not None
    words = html.unescape(page.content.decode())
    for fact in reported["plan"][0]["facts"]:
        assert fact.value in words
    german = client_of(alice).get(reverse("sweep", args=[sweep.pk]), headers={"accept-language": "de"})
    assert "unterscheiden sich in: Köpfe, dichte Zeilen, Seed, Seed der Auswahl" in german.content.decode()
    assert "at most 2 of 4" in words and reported["signed"].root[:8] in words.replace(" ", "")
    assert reported["heads"][:2] == ("Heads, dense rows", "Seed, seed of the selection")
    assert {tuple(values[:2]) for _study, values in reported["rows"]} == {
        ("12.5 %", "0"), ("12.5 %", "1"), ("25 %", "0"), ("25 %", "1"),
    }  # fmt: skip
    sign(sweep, anna)
    assert to_sign(sweep, anna.site) is None
    assert "at most 2 of 4" not in client_of(alice).get(reverse("sweep", args=[sweep.pk])).content.decode()


def page_of(user: User, sweep: Sweep) -> str:
    answer = client_of(user).get(reverse("sweep", args=[sweep.pk]))
    assert answer.status_code == 200
    return html.unescape(answer.content.decode())


def says(user: User, sweep: Sweep, kind: str, text: str, **more: str) -> str:
    """As its form does: with the fingerprint that the page shows."""
    shown = re.search(r'name="manifest_hash"\s+value="([0-9a-f]*)"', page_of(user, sweep))
    assert shown is not None
    body = {"kind": kind, "text": text, "manifest_hash": shown[1], **more}
    answer = client_of(user).post(reverse("sweep-thread", args=[sweep.pk]), body, follow=True)
    return html.unescape(answer.content.decode())


def test_a_question_about_a_sweep_is_asked_and_answered_once(
    sweep: Sweep, lena: User, alice: User, bob: User, anna: Hospital, mailoutbox: list[Any]
) -> None:
    send_due()
    asked = [mail for mail in mailoutbox if mail.to == [alice.email]]
    assert len(asked) == 1 and f"/sweeps/{sweep.pk}" in asked[0].body, "four studies, one mail"
    mailoutbox.clear()
    says(alice, sweep, "message", "Why these ratios?")
    send_due()
    assert [mail.to for mail in mailoutbox] == [[lena.email]] and "“Ratios”" in mailoutbox[0].subject
    waiting = client_of(lena).get(reverse("home")).context["waiting"]
    assert "Answer St. Anna in “Ratios”" in [item["text"] for item in waiting]
    says(lena, sweep, "message", "They bracket the paper's.", site=anna.site.pk)
    for user in (alice, lena):
        reported = page_of(user, sweep)
        assert "Why these ratios?" in reported and "They bracket the paper's." in reported
    assert "Why these ratios?" not in page_of(bob, sweep), "another hospital's thread"
    first = Message.objects.get(text="Why these ratios?")
    assert (
        "about the whole sweep"
        in client_of(alice).get(reverse("study", args=[first.study_id])).content.decode()
    )


def test_a_sweep_is_declined_at_once_taken_back_and_its_reason_is_erased_whole(
    sweep: Sweep, lena: User, alice: User, anna: Hospital
) -> None:
    says(alice, sweep, "decline", "No legal basis for ward 7")
    assert all(decline_of(study, anna.site) for study in studies_of(sweep))
    for user in (alice, lena):
        reported = page_of(user, sweep)
        assert reported.count("No legal basis for ward 7") == 1 and "declined" in reported
    assert "thread.declined" in says(alice, sweep, "decline", "Again")
    says(alice, sweep, "reconsider", "There is one")
    assert not any(decline_of(study, anna.site) for study in studies_of(sweep))
    said = Message.objects.get(kind="decline", first=None)
    client_of(alice).post(reverse("study-thread-erase", args=[said.study_id, said.pk]))
    assert set(Message.objects.filter(kind="decline").values_list("text", "salt")) == {("", "")}
    assert Message.objects.filter(kind="decline").count() == 4
    sign(sweep, anna)
    assert "thread.signed" in says(alice, sweep, "decline", "Too late")


def test_a_wish_for_changes_brings_all_drafts_back_and_what_differs_is_shown_when_asked_again(
    sweep: Sweep, lena: User, alice: User, anna: Hospital, mailoutbox: list[Any]
) -> None:
    send_due()
    reported = says(alice, sweep, "changes", "Three rounds, please")
    mailoutbox.clear()
    assert {study.state for study in studies_of(sweep)} == {StudyState.DRAFT}
    assert (
        "studies are drafts" in reported and "Three rounds, please" in reported and "seed 0" not in reported
    )
    assert "3 × " not in page_of(lena, sweep) and "Three rounds, please" in page_of(lena, sweep)
    for study in studies_of(sweep):
        study.settings = {**study.settings, "rounds": 3}
        study.save()
        freeze_tried(lena, study)
    send_due()
    asked = [mail for mail in mailoutbox if mail.to == [alice.email]]
    assert len(asked) == 1, "that it asks once more is news, and again one piece of it"
    reported = page_of(alice, sweep)
    assert "Compared with what your hospital asked to change" in reported and "Training: Rounds" in reported


def test_an_officers_yes_to_a_sweep_is_not_yet_binding_until_its_one_signature(
    sweep: Sweep, lena: User, alice: User, bob: User, anna: Hospital
) -> None:
    odile = make_person("odile@anna.example", Role.SITE_ADMIN, anna.site, post="officer")
    rita = make_person("rita@anna.example", Role.SITE_ADMIN, anna.site, post="researcher")
    assert "for odile@anna.example" in page_of(lena, sweep), "whom it waits for, by name"
    assert "approve all 4" not in page_of(rita, sweep)
    root = SweepTree([study.manifest_hash for study in studies_of(sweep)]).root
    address = reverse("sweep-approve", args=[sweep.pk])
    for user, shown in ((rita, root), (odile, "0" * 64)):
        assert (
            "[auth.forbidden]"
            in (reported := client_of(user).post(address, {"root": shown}, follow=True).content.decode())
            or "[approval.stale_manifest]" in reported
        )
    assert not Approval.objects.exclude(browser_by=None).exists()
    client_of(odile).post(address, {"root": root})
    given = Approval.objects.filter(site=anna.site)
    assert {(row.browser_by, row.signature) for row in given} == {(odile, None)}
    for user in (odile, lena):
        assert "not yet binding" in page_of(user, sweep)
    sign(sweep, anna)
    assert "not yet binding" not in page_of(lena, sweep) and "all 4" in page_of(lena, sweep)
