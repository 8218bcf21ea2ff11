"""What is kept: the rules forget what nothing can need, say it before, and touch nothing else."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.utils import timezone

from enclave_jobs import retention
from enclave_jobs.blobs.models import Blob, BlobKind, Issue
from enclave_jobs.blobs.store import path_of
from enclave_jobs.enclaves.models import EnclaveState
from enclave_jobs.jobs.models import Inputs, Job, JobKind
from enclave_jobs.runs.models import Contribution, Round, Run
from tests.jobs.cast import Scene, make_scene

pytestmark = pytest.mark.django_db
LONG_AGO = timezone.now() - timedelta(days=1)


@pytest.fixture
def scene(settings: Any, tmp_path: Path) -> Scene:
    settings.BLOB_DIR = tmp_path
    return make_scene()


def blob(run: Run, number: int, kind: BlobKind, size: int = 10) -> str:
    name = f"{number:064x}"
    path = path_of(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    Blob.objects.create(sha256=name, bytes=size, kind=kind, run=run, complete=True)
    return name


def publish(scene: Scene, rounds: int) -> dict[int, dict[str, str]]:
    """So many published rounds, each with an update, parameters and a state; their files by number."""
    scene.round.delete()
    files = {}
    for number in range(1, rounds + 1):
        update, following, state = (
            blob(scene.run, number * 10 + place, kind)
            for place, kind in enumerate((BlobKind.UPDATE, BlobKind.NEXT, BlobKind.STATE))
        )
        round = Round.objects.create(
            run=scene.run, number=number, state="published", next_blob=following, state_blob=state,
            closed_at=LONG_AGO,
        )  # fmt: skip
        Contribution.objects.create(round=round, site=scene.anna.site, state="accepted", blob=update)
        Issue.objects.create(round=round, enclave="e", sha256=following, bytes=10, recipients=[])
        files[number] = {"update": update, "next": following, "state": state}
    Issue.objects.update(at=LONG_AGO)
    return files


def here(files: dict[int, dict[str, str]], what: str) -> list[int]:
    """The rounds whose file is on disk; the row says the same."""
    found = [number for number, names in files.items() if path_of(names[what]).exists()]
    assert found == [number for number, names in files.items() if Blob.objects.get(pk=names[what]).complete]
    return found


def counts(due: list[retention.Due]) -> dict[str, tuple[int, int]]:
    return {one.rule: (one.count, one.bytes) for one in due}


def test_of_a_run_that_goes_on_the_last_rounds_are_kept(scene: Scene) -> None:
    files = publish(scene, 6)
    assert counts(retention.due())["states"] == (3, 30)
    assert here(files, "state") == [1, 2, 3, 4, 5, 6]  # counting removes nothing
    reported = counts(retention.forget())
    assert (reported["updates"], reported["parameters"], reported["states"]) == ((6, 60), (3, 30), (3, 30))
    assert here(files, "update") == []
    assert here(files, "next") == [4, 5, 6]
    assert here(files, "state") == [4, 5, 6]
    assert all(count == 0 for count, _ in counts(retention.due()).values())


def test_a_round_that_is_not_closed_or_was_closed_just_now_keeps_its_updates(scene: Scene) -> None:
    name = blob(scene.run, 1, BlobKind.UPDATE)
    scene.round.contributions.filter(site=scene.anna.site).update(state="submitted", blob=name)
    for state, closed in (("collecting", None), ("aggregating", LONG_AGO), ("published", timezone.now())):
        Round.objects.filter(pk=scene.round.pk).update(state=state, closed_at=closed)
        retention.forget()
        assert path_of(name).exists()
    Round.objects.filter(pk=scene.round.pk).update(state="failed", closed_at=LONG_AGO)
    retention.forget()
    assert not path_of(name).exists()


def test_wrapped_keys_shards_and_what_was_released_are_no_updates(scene: Scene) -> None:
    kept = [blob(scene.run, 1 + n, kind) for n, kind in enumerate(
        (BlobKind.UPDATE, BlobKind.SHARD, BlobKind.RELEASE, BlobKind.EXPORT, BlobKind.STATE))]  # fmt: skip
    Round.objects.filter(pk=scene.round.pk).update(state="published", closed_at=LONG_AGO)
    retention.forget()
    assert all(path_of(name).exists() for name in kept)


def test_of_a_run_that_is_over_the_parameters_go_and_the_last_states_stay(scene: Scene) -> None:
    files = publish(scene, 4)
    Run.objects.filter(pk=scene.run.pk).update(state="finished", finished_at=LONG_AGO)
    retention.forget()
    assert (here(files, "next"), here(files, "state")) == ([], [2, 3, 4])


def test_the_state_that_a_release_names_is_kept(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    files = publish(scene, 5)
    first = Round.objects.get(run=scene.run, number=1)
    monkeypatch.setattr(retention, "_named_rounds", lambda: {first.pk})
    retention.forget()
    assert here(files, "state") == [1, 3, 4, 5]


def test_jobs_go_long_after_their_run_and_not_while_an_enclave_of_it_lives(scene: Scene) -> None:
    scene.offer(scene.anna, JobKind.TRAIN, roster={})
    old = timezone.now() - timedelta(days=retention.JOB_DAYS + 1)
    for state, ended, enclave, left in (
        ("running", None, EnclaveState.STOPPED, 1),
        ("finished", LONG_AGO, EnclaveState.STOPPED, 1),
        ("finished", old, EnclaveState.READY, 1),
        ("finished", old, EnclaveState.STOPPED, 0),
    ):
        Run.objects.filter(pk=scene.run.pk).update(state=state, finished_at=ended)
        scene.enclave.state = enclave
        scene.enclave.save()
        retention.forget()
        assert (Job.objects.count(), Inputs.objects.count()) == (left, left)
    assert scene.round.contributions.count() == 2  # what was contributed stays on record


def test_sessions_that_have_expired_go(scene: Scene) -> None:
    Session.objects.create(session_key="old", session_data="", expire_date=LONG_AGO)
    Session.objects.create(session_key="new", session_data="", expire_date=LONG_AGO + timedelta(days=2))
    retention.forget()
    assert Session.objects.get().session_key == "new"


def test_the_command_says_what_would_go_and_removes_it_only_when_told(scene: Scene) -> None:
    files, out = publish(scene, 4), StringIO()
    call_command("forget", "--dry-run", stdout=out)
    assert "Nothing was removed." in out.getvalue()
    assert "states" in out.getvalue() and here(files, "state") == [1, 2, 3, 4]
    call_command("forget", stdout=out)
    assert here(files, "state") == [2, 3, 4]
