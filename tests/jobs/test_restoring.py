"""What becomes of a run whose sealed state an enclave does not open, or does not find."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.program_calls import Call, Nothing
from contracts.refusal import Refusal
from contracts.server_calls import RESTORE
from enclave_jobs.conductor import advancing, restoring
from enclave_jobs.enclaves.models import EnclaveState
from enclave_jobs.runs.models import Round
from error_catalogue import CATALOGUE
from tests.jobs.cast import Scene, make_scene

pytestmark = pytest.mark.django_db


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A run whose enclave starts again after its first round was published."""
    monkeypatch.setattr("enclave_jobs.dispatch.send", lambda *_: None)
    monkeypatch.setattr("enclave_jobs.supervisor.client.start", lambda *_: True)
    scene = make_scene()
    Round.objects.filter(pk=scene.round.pk).update(state="published", state_blob="5" * 64)
    scene.run.state, scene.enclave.state = "starting", EnclaveState.STARTING
    scene.run.save()
    scene.enclave.save()
    return scene


def refuse_to_restore(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    def call(_enclave: str, asked: Call[Any, Any], _arguments: Any, **_: Any) -> Nothing:
        if asked is RESTORE:
            raise Refusal(code)
        return Nothing()

    monkeypatch.setattr("enclave_jobs.supervisor.client.call", call)


@pytest.mark.parametrize("code", restoring.NOT_OPENED)
def test_state_that_was_sealed_on_another_machine_ends_the_run_with_words(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    refuse_to_restore(monkeypatch, code)
    advancing.advance(scene.run.pk)
    scene.run.refresh_from_db()
    assert (scene.run.state, scene.run.error_code) == ("failed", "run.state_sealed_elsewhere")
    assert "supervisor/platform" in CATALOGUE["run.state_sealed_elsewhere"].hint


def test_state_that_is_missing_ends_it_as_well(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_to_restore(monkeypatch, "blob.unknown")
    advancing.advance(scene.run.pk)
    scene.run.refresh_from_db()
    assert (scene.run.state, scene.run.error_code) == ("failed", "run.state_lost")


def test_an_enclave_that_cannot_be_asked_now_is_asked_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_to_restore(monkeypatch, "supervisor.unreachable")
    advancing.advance(scene.run.pk)
    scene.run.refresh_from_db()
    assert scene.run.state == "starting"
