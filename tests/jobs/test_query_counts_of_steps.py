"""A step of the conductor asks the database as often for sixty sites as for ten."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from contracts.receipts import Receipt, ReceiptInput
from enclave_jobs.conductor import collecting, countersigning, joining, publishing, rounds
from enclave_jobs.conductor.methods import method_1
from enclave_jobs.jobs.models import JOINS, Inputs, Job, JobKind, JobState
from enclave_jobs.runs.models import Contribution, Round, RoundKind
from federation.frozen import manifest_of
from federation.sites.models import Site
from federation.studies.models import Event
from tests.jobs.cast import Scene, make_scene

pytestmark = pytest.mark.django_db
FEW, MANY = 10, 60
SQLITES_BATCHES = 4
"""SQLite takes 999 values a statement, so sixty rows are inserted in a few; PostgreSQL takes them in one."""


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("enclave_jobs.dispatch.send", lambda *_: None)
    monkeypatch.setattr("federation.sites.wake._say", lambda *_: None)


def crowd(sites: int) -> Scene:
    """A collecting round of so many sites, which have all joined."""
    scene = make_scene()
    deadline = timezone.now() + timedelta(minutes=5)
    Round.objects.filter(pk=scene.round.pk).update(deadline=deadline)
    scene.round.contributions.all().delete()
    more = [
        Site(id=f"site-{sites}-{n:03}", name=f"site {n} of {sites}", state="active") for n in range(sites)
    ]
    Site.objects.bulk_create(more)
    fields: dict[str, Any] = {"run": scene.run, "enclave": scene.enclave.pk, "kind": JobKind.JOIN}
    Job.objects.bulk_create(Job(**fields, site=site, state=JobState.DONE) for site in more)
    Contribution.objects.bulk_create(Contribution(round=scene.round, site=site) for site in more)
    scene.round.refresh_from_db()
    return scene


def queries(step: Callable[[], Any]) -> int:
    with CaptureQueriesContext(connection) as asked:
        step()
    return len(asked)


def advance(scene: Scene) -> None:
    method_1.offer_jobs(scene.round)
    collecting.advance(scene.round)


def counted(sites: int) -> dict[str, int]:
    """Queries of each kind of step."""
    scene = crowd(sites)
    first = queries(lambda: advance(scene))
    jobs = Job.objects.filter(run=scene.run)
    assert jobs.filter(kind=JobKind.TRAIN).count() == sites
    again = queries(lambda: advance(scene))
    rows = scene.round.contributions
    rows.filter(site=f"site-{sites}-000").update(state="submitted", blob="1" * 64, bytes=1, samples=1)
    one_came = queries(lambda: advance(scene))
    everybody = {"state": "submitted", "blob": "2" * 64, "bytes": 1, "samples": 1}
    rows.update(**everybody, good_for=scene.enclave.pk)
    fixed = queries(lambda: countersigning.fix_roster(scene.round, manifest_of(scene.run)))
    scene.round.refresh_from_db()
    signing = jobs.filter(kind=JobKind.COUNTERSIGN)
    assert signing.count() == sites

    def waits() -> None:
        countersigning.ask(scene.round)
        countersigning.advance(scene.round)

    waited = queries(waits)
    roster = Inputs.objects.get(run=scene.run, said__has_key="roster")
    assert roster.said["roster"] == scene.round.roster
    assert signing.filter(common=roster, inputs={}).count() == sites
    inputs = [ReceiptInput(row.site_id, "2" * 64, 1, 3) for row in rows.all()]
    ended = cast(Receipt, SimpleNamespace(inputs=inputs))  # the rest of it was checked before
    accepted = queries(lambda: publishing._accept(scene.round, ended))
    assert rows.filter(state="accepted", samples=3).count() == sites
    assert Event.objects.filter(kind="contribution.accepted", run=scene.run).count() == sites
    Round.objects.filter(pk=scene.round.pk).update(state="failed")
    opened = queries(lambda: rounds.open_round(scene.run, 2, RoundKind.TRAIN, manifest_of(scene.run)))
    assert Contribution.objects.filter(round__run=scene.run, round__number=2).count() == sites
    return {"first": first, "again": again, "one came": one_came, "fixed": fixed, "signing": waited,
            "accepted": accepted, "opened": opened}  # fmt: skip


def test_steps_ask_as_often_for_sixty_sites_as_for_ten() -> None:
    with transaction.atomic():
        few = counted(FEW)
        transaction.set_rollback(True)
    many = counted(MANY)
    for step in ("again", "one came", "signing"):
        assert many[step] == few[step] <= 25, (step, few, many)
    for step in ("first", "fixed", "accepted", "opened"):
        assert many[step] <= few[step] + SQLITES_BATCHES, (step, few, many)


def test_asking_all_to_join_asks_as_often_for_many() -> None:
    scene = make_scene()
    manifest = manifest_of(scene.run)
    first = queries(lambda: joining.offer_all(scene.run, scene.enclave, manifest))
    assert Job.objects.filter(kind__in=JOINS).count() == 2
    assert queries(lambda: joining.offer_all(scene.run, scene.enclave, manifest)) == 2 < first
