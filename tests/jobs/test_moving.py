"""A run whose state the hospitals' shares open goes on at another machine of the pool, if its own is gone."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.fleet_runs import consortium_of
from contracts.receipt_chain import parse_receipt, verify_chain
from contracts.refusal import Refusal
from enclave_jobs.conductor import advancing, moving, releasing, restarting, restoring, serving
from enclave_jobs.conductor.position import position
from enclave_jobs.enclaves import services as enclaves
from enclave_jobs.enclaves.models import Enclave, EnclaveState
from enclave_jobs.releases.models import Release
from enclave_jobs.runs.models import Run
from enclave_jobs.serving.models import Service
from enclave_jobs.supervisor import client, pool
from tests.jobs.cast import Scene, make_scene
from tests.jobs.driver import Hospital
from tests.jobs.test_pool import Pool, Second, homes
from tests.support import beginnings, redis_server
from tests.support.installation import Installation, free_port, wait_for

PLAN: dict[str, Any] = {"method": "method-2", "cut": 1, "attention_ratio": 50.0, "dense_ratio": 50.0}
AWAY = Refusal("supervisor.unreachable")


@pytest.fixture
def pooled(tmp_path: Path) -> Iterator[Pool]:
    """Both machines' platforms are as TDX's are: no key outlives an enclave."""
    here, there = (f"127.0.0.1:{free_port()}" for _ in range(2))
    model = beginnings.tiny_model()
    engines = {"FEDSLICE_SUPERVISOR": here, "FEDSLICE_SUPERVISORS": f"{here}, {there}"}
    place = Installation(tmp_path / "state", model=str(model), tee="tdx", engines=engines)
    place.folder.mkdir()
    place.start()
    second = Second(place, tmp_path / "second", there)
    try:
        place.manage("register_measurements")
        consortium, groups = consortium_of(place, model, tmp_path, 1, Hospital)
        yield consortium, groups, second, here, there
        consortium.stop()
    finally:
        second.kill()
        place.stop()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_leaves_a_machine_that_died_and_its_hospitals_bring_the_state_along(pooled: Pool) -> None:
    consortium, (group,), second, here, there = pooled
    place = consortium.installation
    wait_for(lambda: "it can be stopped" in place.manage("drain_supervisor", here), 60, "here is drained")
    run = consortium.launch(group, rounds=3, deadline_seconds=600, key_shares=2, **PLAN)
    wait_for(lambda: homes(consortium, run), 120, "the run has a home")
    assert homes(consortium, run) == [there]
    place.manage("drain_supervisor", here, "--back")
    consortium.start()
    consortium.until(run, 1, "published", seconds=300)
    second.kill()
    ended = consortium.finished(run, 400)
    assert ended["state"] == "finished", (ended["error_code"], ended["facts"])
    assert homes(consortium, run) == [there, here]
    asked = consortium.rows("select inputs from enclave_jobs_job where run_id = ? and kind = 'rewrap'", run)
    assert asked and all("escrow" in row["inputs"] for row in asked), "the shares were brought back"
    reported = [row["receipt"] for row in consortium.rounds(run) if row["receipt"] not in (None, "null")]
    receipts = [parse_receipt(json.loads(receipt)) for receipt in reported]
    verify_chain(receipts, manifest=ended["manifest_hash"])
    assert [signed.receipt.restarts for signed in receipts][-1] == 1


@pytest.fixture
def scene(db: None, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """A run whose machine is away, in a pool of two; nothing was published."""
    with redis_server.running() as redis:
        settings.SUPERVISORS = ["a:1", "b:1"]
        monkeypatch.setattr(moving, "redis_client", lambda: redis)
        monkeypatch.setattr(pool, "place", lambda runtime: "b:1")

        def room(at: str) -> None:
            raise AWAY

        monkeypatch.setattr(client, "room", room)
        yield make_scene()


def waited(scene: Scene, seconds: float) -> None:
    moving.redis_client().set(f"fedslice:away:{scene.run.pk}", time.time() - seconds)


def considered(scene: Scene, refusal: Refusal) -> bool:
    """By a step that nobody has overtaken."""
    return moving.consider(scene.run, refusal, position(scene.run.pk))


def test_it_goes_only_after_a_while(scene: Scene) -> None:
    assert not considered(scene, AWAY)
    waited(scene, moving.AWAY_SECONDS - 5)
    assert not considered(scene, AWAY)
    waited(scene, moving.AWAY_SECONDS + 1)
    assert not considered(scene, Refusal("blob.storage_full"))
    assert considered(scene, AWAY)
    scene.enclave.refresh_from_db()
    assert scene.enclave.state == EnclaveState.LOST
    assert Run.objects.get(pk=scene.run.pk).state == "starting"


def test_it_stays_with_a_machine_that_answers_or_has_what_opens_its_state(
    scene: Scene, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited(scene, moving.AWAY_SECONDS + 1)
    monkeypatch.setattr(restoring, "opens_anywhere", lambda run: False)
    assert not considered(scene, AWAY)
    monkeypatch.setattr(restoring, "opens_anywhere", lambda run: True)
    with monkeypatch.context() as patch:
        patch.setattr(client, "room", lambda at: None)
        assert not considered(scene, AWAY), "only this call was lost"

    def refusing(at: str) -> None:
        raise Refusal("supervisor.unauthorised")

    with monkeypatch.context() as patch:
        patch.setattr(client, "room", refusing)
        assert not considered(scene, AWAY), "who refuses is there"
    settings.SUPERVISORS = []
    assert not considered(scene, AWAY), "there is no other machine"
    scene.enclave.refresh_from_db()
    assert scene.enclave.state == EnclaveState.READY


def test_a_step_that_was_overtaken_takes_no_enclave_away(scene: Scene) -> None:
    waited(scene, moving.AWAY_SECONDS + 1)
    began = position(scene.run.pk)
    restarting.lost(scene.run, AWAY)  # the faster worker, which has named the next one too
    fresh = enclaves.name_next(scene.run, scene.enclave.program, "b:1")
    assert not moving.consider(scene.run, AWAY, began)
    fresh.refresh_from_db()
    assert fresh.state == EnclaveState.STARTING, "the run's new enclave is not given up"


def test_a_machine_that_was_back_meanwhile_is_given_its_time_again(scene: Scene) -> None:
    waited(scene, moving.AWAY_SECONDS + 1)
    advancing.advance(scene.run.pk)
    assert not considered(scene, AWAY), "two short absences are no long one"
    waited(scene, moving.AWAY_SECONDS + 1)
    assert considered(scene, AWAY)
    assert moving.redis_client().get(f"fedslice:away:{scene.run.pk}") is None, "the new machine has its own"


def test_a_machine_that_was_taken_out_of_the_pool_is_not_waited_for(
    scene: Scene, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its state is worth elsewhere, the next enclave finds out: `run.state_sealed_elsewhere` ends it."""
    monkeypatch.setattr(restoring, "opens_anywhere", lambda run: False)
    Enclave.objects.update(supervisor="a:1")
    waited(scene, moving.AWAY_SECONDS + 1)
    assert not considered(scene, AWAY), "it may come back"
    settings.SUPERVISORS = ["b:1", "c:1"]
    waited(scene, moving.AWAY_SECONDS + 1)
    assert considered(scene, AWAY)
    assert enclaves.home_of(scene.run, "development") == "b:1"
    settings.SUPERVISORS = ["a:2", "b:1"]
    assert enclaves.home_of(scene.run, "development") == "a:2", "the same machine, upgraded"


@pytest.fixture(params=["serves", "releases"])
def after(request: pytest.FixtureRequest, scene: Scene) -> Any:
    """A run that is over, whose model is served or about to be released, at a machine that is away; the step,
    and what it is for."""
    Run.objects.update(state="finished")
    Enclave.objects.update(supervisor="a:1", **{request.param: True})
    if request.param == "serves":
        enclave = scene.enclave.pk
        return Service.objects.create(run=scene.run, state="serving", enclave=enclave), serving, "starting"
    asked = {"rule": "export", "receipt": "1" * 64, "asked_by": scene.run.study.lead}
    return Release.objects.create(run=scene.run, state="releasing", **asked), releasing, "releasing"


def away(scene: Scene, monkeypatch: pytest.MonkeyPatch, anywhere: bool) -> None:
    def refusing(*_arguments: Any, **_options: Any) -> None:
        raise AWAY

    for call in ("is_running", "start", "call", "stop"):
        monkeypatch.setattr(client, call, refusing)
    monkeypatch.setattr(restoring, "opens_anywhere", lambda run: anywhere)
    waited(scene, moving.AWAY_SECONDS + 1)


@pytest.mark.parametrize("how", ["its shares open it", "the machine is gone"])
def test_what_serves_and_releases_leaves_a_machine_that_is_lost(
    scene: Scene, settings: Any, monkeypatch: pytest.MonkeyPatch, after: Any, how: str
) -> None:
    about, module, state = after
    away(scene, monkeypatch, how == "its shares open it")
    if how == "the machine is gone":
        settings.SUPERVISORS = ["b:1", "c:1"]
    module.advance(scene.run.pk)
    scene.enclave.refresh_from_db()
    about.refresh_from_db()
    assert (scene.enclave.state, about.state, about.losses) == (EnclaveState.LOST, state, 1)
    module.advance(scene.run.pk)
    again = Enclave.objects.filter(run=scene.run).latest("epoch")
    assert (again.supervisor, again.state) == ("b:1", EnclaveState.STARTING)


def test_what_serves_and_releases_waits_for_a_machine_that_may_come_back(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, after: Any
) -> None:
    about, module, _state = after
    before = about.state
    away(scene, monkeypatch, False)
    module.advance(scene.run.pk)
    scene.enclave.refresh_from_db()
    about.refresh_from_db()
    assert (scene.enclave.state, about.state, about.losses) == (EnclaveState.READY, before, 0)


def test_what_nobody_wants_any_more_is_over_though_its_machine_is_gone(
    scene: Scene, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    Run.objects.update(state="finished")
    Enclave.objects.update(supervisor="a:1")
    away(scene, monkeypatch, False)
    with pytest.raises(Refusal, match=AWAY.code):
        enclaves.stop(scene.run.pk)
    settings.SUPERVISORS = ["b:1", "c:1"]
    enclaves.stop(scene.run.pk)
    scene.enclave.refresh_from_db()
    assert scene.enclave.state == EnclaveState.STOPPED
