"""A sweep is one thing to whoever reads and signs it: one line, one page, one signature."""

from __future__ import annotations

import html

import msgspec
import pytest
from django.test import Client
from django.urls import reverse

from contracts.manifest import parse
from contracts.policy import SgxReference
from enclave_jobs.runs import sweeps
from enclave_jobs.runs.queries import approvals_given
from enclave_jobs.runs.sweeps import Axes
from federation.attestation import references
from federation.attestation.models import Root
from federation.people.models import User
from federation.studies import services
from federation.studies.models import Study, StudyState, Sweep
from federation.studies.plan import Plan
from frontend.sweeps import to_sign
from tests.federation.cast import MODEL, Hospital
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
    told = to_sign(sweep, anna.site)
    assert told is not None
    words = html.unescape(page.content.decode())
    for fact in told["plan"][0]["facts"]:
        assert fact.value in words
    assert "at most 2 of 4" in words and told["signed"].root[:8] in words.replace(" ", "")
    assert told["heads"][:2] == ("Heads, dense rows", "Seed, seed of the selection")
    assert {tuple(values[:2]) for _study, values in told["rows"]} == {
        ("12.5 %", "0"), ("12.5 %", "1"), ("25 %", "0"), ("25 %", "1"),
    }  # fmt: skip
    sign(sweep, anna)
    assert to_sign(sweep, anna.site) is None
    assert "at most 2 of 4" not in client_of(alice).get(reverse("sweep", args=[sweep.pk])).content.decode()
