"""The lead pauses, resumes and goes on without those who are late; the conductor does as it is told."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from contracts.manifest import Aggregation
from contracts.refusal import Refusal
from enclave_jobs.conductor import collecting, countersigning, inspecting, joining
from enclave_jobs.jobs.models import Job, JobKind, JobState
from enclave_jobs.runs import services as runs
from enclave_jobs.runs.models import Contribution, Round, Run
from federation.audit.models import AuditEntry
from federation.people.models import Role, User
from federation.studies.events import apply, note
from federation.studies.models import Event
from tests.federation.cast import make_person
from tests.jobs.cast import Scene, make_scene

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("enclave_jobs.dispatch.send", lambda task, id: None)


@pytest.fixture
def scene() -> Scene:
    """A quorum of one of two hospitals, and a round with an hour left."""
    scene = make_scene(aggregation=Aggregation("fedavg", 1, 3600))
    Round.objects.filter(pk=scene.round.pk).update(deadline=timezone.now() + timedelta(hours=1))
    return scene


@pytest.fixture
def lena(scene: Scene) -> User:
    return scene.run.study.lead


def submit(scene: Scene, hospital: Any) -> None:
    mine = Contribution.objects.filter(round=scene.round, site=hospital.site)
    mine.update(state="submitted", blob="1" * 64, bytes=10, samples=5)


def closed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the conductor's step closes the round now. (What it inspects is no matter of this test.)"""
    fixed: list[Round] = []
    monkeypatch.setattr(inspecting, "done", lambda round: True)
    monkeypatch.setattr(countersigning, "fix_roster", lambda round, manifest: fixed.append(round))
    collecting.advance(Round.objects.select_related("run__study").get(pk=scene.round.pk))
    return bool(fixed)


def test_a_round_goes_on_with_those_who_came_once_the_lead_says_so(
    scene: Scene, lena: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(scene, scene.anna)
    assert not closed(scene, monkeypatch)
    here = runs.who_is_here(scene.run)
    assert here is not None and (here.found, here.of, here.quorum, here.enough) == (1, 2, 1, True)
    runs.proceed(lena, scene.run)
    assert closed(scene, monkeypatch)
    assert Event.objects.get(kind="round.proceeded_early").facts == {"found": 1, "of": 2}
    assert AuditEntry.objects.filter(action="run.proceeded_early", actor=lena.email).count() == 1


def test_nobody_goes_on_below_the_quorum_that_was_approved(scene: Scene, lena: User) -> None:
    with pytest.raises(Refusal) as caught:
        runs.proceed(lena, scene.run)
    assert caught.value.code == "run.below_quorum"
    assert Round.objects.get(pk=scene.round.pk).deadline > timezone.now()


def test_only_the_lead_hurries_a_run_and_only_one_that_waits(scene: Scene, lena: User) -> None:
    submit(scene, scene.anna)
    olga = make_person("olga@coordinator.example", Role.OPERATOR)
    for who, state, code in ((olga, "running", "auth.forbidden"), (lena, "paused", "run.wrong_state")):
        Run.objects.filter(pk=scene.run.pk).update(state=state)
        with pytest.raises(Refusal) as caught:
            runs.proceed(who, scene.run)
        assert caught.value.code == code
    submit(scene, scene.berta)
    Run.objects.filter(pk=scene.run.pk).update(state="running")
    with pytest.raises(Refusal) as caught:  # all are here: there is nobody to leave behind
        runs.proceed(lena, scene.run)
    assert caught.value.code == "run.below_quorum"


def joining_scene(scene: Scene) -> None:
    Round.objects.all().delete()
    Run.objects.filter(pk=scene.run.pk).update(state="joining")
    scene.run.refresh_from_db()
    note(scene.run, "run.joining")
    for hospital, state in ((scene.anna, JobState.DONE), (scene.berta, JobState.WAITING)):
        job = scene.offer(hospital, JobKind.JOIN) if state else None
        Job.objects.filter(pk=job.pk).update(state=state)
    note(scene.run, "site.joined", site=scene.anna.site)


def test_a_run_starts_with_those_who_joined_once_the_lead_says_so(scene: Scene, lena: User) -> None:
    scene.round = None  # type: ignore[assignment]
    joining_scene(scene)
    joining.advance(scene.run)
    assert Run.objects.get().state == "joining"
    runs.proceed(lena, scene.run)
    joining.advance(scene.run)
    assert Run.objects.get().state == "running"


def test_a_paused_run_goes_back_to_where_it_was(scene: Scene, lena: User) -> None:
    """Also to joining, although it has rounds: its enclave was started again."""
    Run.objects.filter(pk=scene.run.pk).update(state="joining")
    runs.pause(lena, scene.run)
    runs.resume(lena, scene.run)
    assert Run.objects.get().state == "joining"


def test_paused_time_is_not_taken_from_the_sites(scene: Scene, lena: User) -> None:
    before = Round.objects.get(pk=scene.round.pk).deadline
    runs.pause(lena, scene.run)
    Event.objects.filter(kind="run.paused").update(at=timezone.now() - timedelta(hours=2))
    runs.resume(lena, scene.run)
    after = Round.objects.get(pk=scene.round.pk).deadline
    assert timedelta(hours=2) <= after - before < timedelta(hours=2, seconds=30)


def test_a_pause_in_joining_gives_the_sites_their_full_time_again(scene: Scene, lena: User) -> None:
    scene.round = None  # type: ignore[assignment]
    joining_scene(scene)
    long_ago = timezone.now() - timedelta(hours=3)
    scene.enclave.ready_at = long_ago
    scene.enclave.save()
    Event.objects.filter(kind="run.joining").update(at=long_ago)
    runs.pause(lena, scene.run)
    assert apply(scene.run, "paused", "joining")
    joining.advance(scene.run)
    assert Run.objects.get().state == "joining"
