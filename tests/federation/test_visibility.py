"""Who sees what: (person, what, ids that they may see), for all reads that pages and API build on."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from enclave_jobs.runs.permissions import runs_visible_to
from enclave_jobs.runs.services import launch
from federation.attestation import log
from federation.attestation import permissions as attestation
from federation.attestation.models import AppraisalRecord, LogEntry
from federation.audit import permissions as audit
from federation.audit.queries import page
from federation.audit.services import record
from federation.datasets import permissions as datasets
from federation.people import permissions as people
from federation.people.models import User
from federation.sites import permissions as sites
from federation.studies import permissions as studies
from federation.studies import services
from federation.studies.models import Study
from federation.studies.plan import Plan
from tests.federation.cast import MODEL, Hospital, make_dataset

EVERYBODY = ("olga", "lena", "ludo", "alice", "bob", "carol", "audrey")


@pytest.fixture
def world(
    ready: Study,
    clara: Hospital,
    lena: User,
    ludo: User,
    olga: User,
    alice: User,
    bob: User,
    carol: User,
    audrey: User,
) -> dict[str, Any]:
    """Lena's launched study with St. Anna and St. Barbara; Ludo's draft with St. Clara."""
    run = launch(lena, ready)
    draft = services.create_study(
        ludo, name="Draft", purpose="", plan=Plan(model=MODEL), datasets=[make_dataset(clara.site)]
    )
    gone = make_dataset(clara.site, "gone", withdrawn_at=datetime.datetime.now(datetime.UTC))

    def appraisal(site: Any) -> AppraisalRecord:
        return AppraisalRecord.objects.create(
            run=run, site=site, program="client_slice" if site else "aggregator", verdict="accepted",
            at=datetime.datetime.now(datetime.UTC), development=True, claims={}, quote_sha256="0" * 64,
            collateral_sha256="0" * 64, log_entry=log.append("test.entry", {"n": 1}),
        )  # fmt: skip

    members = {row.site.name: row for row in ready.datasets.all()}
    server = appraisal(None)
    slices = {name: appraisal(members[name].site) for name in ("St. Anna", "St. Barbara")}
    return {
        "study": ready, "run": run, "draft": draft, "gone": gone, "server": server, "slices": slices,
        "members": members, "clara": clara.site, "offer": draft.datasets.get(),
    }  # fmt: skip


def ids(rows: Any) -> set[Any]:
    return {row.pk for row in rows}


@pytest.mark.parametrize("who", EVERYBODY)
def test_studies_and_runs(world: dict[str, Any], who: str, request: Any) -> None:
    person, main, draft = request.getfixturevalue(who), world["study"], world["draft"]
    expected = {
        "olga": {main.pk, draft.pk}, "audrey": {main.pk, draft.pk}, "lena": {main.pk}, "ludo": {draft.pk},
        "alice": {main.pk}, "bob": {main.pk}, "carol": set(),
    }[who]  # fmt: skip
    assert ids(studies.visible_to(person)) == expected
    assert ids(runs_visible_to(person)) == ({world["run"].pk} if main.pk in expected else set())
    assert studies.can_see(person, main) == (main.pk in expected)
    assert studies.can_edit(person, main) == (who == "lena")
    assert studies.can_cancel(person, main) == (who in ("lena", "olga"))
    assert studies.can_approve(person, main) == (who in ("alice", "bob"))
    assert studies.can_create(person) == (who in ("lena", "ludo"))


@pytest.mark.parametrize("who", EVERYBODY)
def test_sites(world: dict[str, Any], who: str, request: Any) -> None:
    person = request.getfixturevalue(who)
    every = {row.site.pk for row in world["members"].values()} | {world["clara"].pk}
    own = {person.site_id} if person.site_id else set()
    assert ids(sites.visible_to(person)) == (own or every)
    assert sites.can_see(person, world["clara"]) == (who not in ("alice", "bob"))
    assert sites.can_enrol(person, world["clara"]) == (who == "carol")
    assert sites.can_govern(person, world["clara"], "suspended") == (who in ("olga", "carol"))
    assert sites.can_govern(person, world["clara"], "active") == (who == "olga")


@pytest.mark.parametrize("who", EVERYBODY)
def test_datasets(world: dict[str, Any], who: str, request: Any) -> None:
    person = request.getfixturevalue(who)
    anna, barbara = world["members"]["St. Anna"].pk, world["members"]["St. Barbara"].pk
    offer, gone = world["offer"].pk, world["gone"].pk
    expected = {
        "olga": {anna, barbara, offer, gone}, "audrey": {anna, barbara, offer, gone},
        "lena": {anna, barbara, offer}, "ludo": {anna, barbara, offer},
        "alice": {anna}, "bob": {barbara}, "carol": {offer, gone},
    }[who]  # fmt: skip
    assert ids(datasets.visible_to(person)) == expected
    assert datasets.can_see(person, world["gone"]) == (gone in expected)


@pytest.mark.parametrize("who", EVERYBODY)
def test_attestation_records(world: dict[str, Any], who: str, request: Any) -> None:
    person = request.getfixturevalue(who)
    server = world["server"].pk
    anna, barbara = (world["slices"][name].pk for name in ("St. Anna", "St. Barbara"))
    expected = {
        "olga": {server, anna, barbara}, "audrey": {server, anna, barbara}, "lena": {server, anna, barbara},
        "ludo": set(), "alice": {server, anna}, "bob": {server, barbara}, "carol": set(),
    }[who]  # fmt: skip
    assert ids(attestation.appraisals_visible_to(person)) == expected
    whole = who in ("olga", "audrey")
    seen = attestation.log_visible_to(person)
    # Of Lena's study, and its manifest; members see their own approvals.
    approvals = {"lena": 3, "alice": 1, "bob": 1}.get(who, 0)
    assert seen.count() == (LogEntry.objects.count() if whole else len(expected) + approvals)
    raw = attestation.can_read_evidence(person, world["slices"]["St. Anna"])
    assert raw == (who in ("audrey", "alice"))
    assert attestation.can_read_evidence(person, world["server"]) == (who == "audrey")


@pytest.mark.parametrize("who", EVERYBODY)
def test_people_and_the_trail(world: dict[str, Any], who: str, request: Any) -> None:
    person = request.getfixturevalue(who)
    whole = who in ("olga", "audrey")
    assert ids(people.visible_to(person)) == (ids(User.objects.all()) if whole else {person.pk})
    trail = audit.visible_to(person)
    if not whole:
        own = f"site:{person.site_id}"
        assert all(own in (entry.actor, entry.target) for entry in trail)
        assert trail.exists() == (who in ("alice", "bob"))
    else:
        assert trail.filter(action="run.launched").exists()


def test_the_trail_is_paged_by_key(db: None) -> None:
    for number in range(7):
        record(None, "site.named" if number % 2 else "study.created", f"x:{number}")
    from federation.audit.models import AuditEntry

    first = page(AuditEntry.objects.all(), size=4)
    rest = page(AuditEntry.objects.all(), size=4, before=first[-1].pk)
    assert [entry.target for entry in first + rest] == [f"x:{number}" for number in (6, 5, 4, 3, 2, 1, 0)]
    assert len(page(AuditEntry.objects.all(), action="site.")) == 3
