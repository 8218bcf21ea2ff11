"""Before a key or parameters are released: is every reference value still in force, and is it in the log?"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from django.db import DatabaseError

from attestation.development import create_root, root_sha256
from contracts.aggregator_calls import ADMIT, Admitted
from contracts.policy import Policy, SgxReference
from contracts.program_calls import Call
from contracts.refusal import Refusal
from enclave_jobs.blobs.models import Blob, Issue
from enclave_jobs.conductor import aggregating, issuing, publishing
from enclave_jobs.enclaves.models import Admission
from enclave_jobs.runs.models import Round
from enclave_jobs.supervisor import client
from federation.attestation import references
from federation.attestation.models import AppraisalRecord, LogEntry, Reference, Root
from tests.federation.development import DevelopmentHost, make_platform
from tests.federation.test_log_before_release import full_disk
from tests.jobs.cast import REFERENCE, Scene, make_scene
from tests.jobs.test_conductor_steps import HOLDER, SIGNER, answer_for

pytestmark = pytest.mark.django_db

CLIENT = SgxReference("client_slice", mrenclave=f"{2:064x}")


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("enclave_jobs.dispatch.send", lambda task, id: None)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the supervisor was asked for; it accepts every admission."""
    ops: list[str] = []

    def call(enclave: str, asked: Call[Any, Any], *args: Any, **kwargs: Any) -> Admitted:
        ops.append(asked.name)
        if asked is ADMIT:  # at this moment the release must be in the log
            ops.append(str(LogEntry.objects.filter(kind="key-release").count()))
        return Admitted(None)

    monkeypatch.setattr(client, "call", call)
    monkeypatch.setattr(client, "once", lambda *args, **kwargs: ops.append("once"))
    return ops


@pytest.fixture
def scene() -> Scene:
    return make_scene()


@pytest.fixture
def hosted(settings: Any, tmp_path: Path) -> tuple[Scene, DevelopmentHost]:
    """A run whose policy pins this test's own development root, and a host under it."""
    settings.STATE_DIR = tmp_path
    settings.DEVELOPMENT_ROOT_DIR = tmp_path / "development-root"
    create_root(settings.DEVELOPMENT_ROOT_DIR)
    references.add(None, CLIENT, root=Root.DEVELOPMENT, reason="for this test")
    policy = Policy("development", root_sha256(settings.DEVELOPMENT_ROOT_DIR), (REFERENCE, CLIENT))
    return make_scene(policy=policy), make_platform(settings, tmp_path)


def admit(scene: Scene, host: DevelopmentHost, measurement: str | None = None) -> dict[str, Any]:
    shown = host.evidence(scene.run, measurement=measurement)
    body = {"evidence": json.loads(msgspec.json.encode(shown)), "endorsement": "0" * 128}
    return scene.anna.call("POST", f"runs/{scene.run.pk}/aggregator/admit", body).json()


def suspend_all() -> None:
    for row in Reference.objects.filter(suspended_at=None):
        references.suspend(None, row, "a bug was found")


class TestAdmission:
    def test_it_is_in_the_log_before_the_enclave_is_asked(
        self, hosted: tuple[Scene, DevelopmentHost], asked: list[str]
    ) -> None:
        scene, host = hosted
        assert admit(scene, host) == {"verdict": "accepted", "code": None, "held": None}
        assert asked == ["admit", "1"]
        entry = LogEntry.objects.get(kind="key-release")
        body = json.loads(entry.data)["body"]
        assert (body["what"], body["site"], body["measurement"]) == (
            "admission", scene.anna.site.pk, CLIENT.mrenclave,
        )  # fmt: skip
        assert entry.study_id == scene.run.study_id

    def test_a_suspended_value_stops_it(
        self, hosted: tuple[Scene, DevelopmentHost], asked: list[str]
    ) -> None:
        scene, host = hosted
        suspend_all()
        assert admit(scene, host)["code"] == "reference.lapsed"
        assert asked == [] and not Admission.objects.exists()

    def test_a_suspended_value_stops_the_enclaves_evidence_too(
        self, hosted: tuple[Scene, DevelopmentHost], asked: list[str]
    ) -> None:
        scene, _ = hosted
        suspend_all()
        address = f"runs/{scene.run.pk}/aggregator/evidence"
        reported = scene.anna.call("POST", address, {"nonce": "0" * 64}).json()
        assert reported["code"] == "reference.lapsed" and asked == []

    def test_a_quarantined_site_is_told_so_and_its_refusal_is_in_the_log(
        self, hosted: tuple[Scene, DevelopmentHost], asked: list[str]
    ) -> None:
        scene, host = hosted
        assert admit(scene, host, "e" * 64)["code"] == "reference.under_review"
        assert asked == []
        entry = LogEntry.objects.get(kind="appraisal")
        assert (entry.verdict, entry.code) == ("refused", "attest.measurement")
        assert admit(scene, host)["verdict"] == "accepted"  # with the approved measurement it may

    def test_the_coordinators_own_refusal_is_enough(
        self, hosted: tuple[Scene, DevelopmentHost], asked: list[str], settings: Any, tmp_path: Path
    ) -> None:
        scene, _ = hosted
        settings.DEVELOPMENT_ROOT_DIR = tmp_path / "another-root"
        assert admit(scene, make_platform(settings, tmp_path, "other"))["code"] == "attest.root_untrusted"
        assert asked == []

    def test_with_a_full_disk_nobody_is_admitted(
        self, hosted: tuple[Scene, DevelopmentHost], asked: list[str]
    ) -> None:
        scene, host = hosted
        with full_disk():
            assert admit(scene, host)["code"] == "internal"
        assert asked == [] and not Admission.objects.exists() and not AppraisalRecord.objects.exists()


class TestParameters:
    def test_what_is_published_is_logged_with_who_can_open_it(self, scene: Scene) -> None:
        answer = answer_for(scene, SIGNER)
        Admission.objects.create(enclave=scene.enclave, site=scene.anna.site, signing_key=HOLDER)
        publishing.publish(scene.round, answer)
        body = json.loads(LogEntry.objects.get(kind="key-release").data)["body"]
        assert (body["what"], body["output"], body["recipients"], body["sites"]) == (
            "parameters", "a" * 64, [HOLDER], [scene.anna.site.pk],
        )  # fmt: skip

    def test_with_a_full_disk_nothing_is_published(self, scene: Scene) -> None:
        answer = answer_for(scene, SIGNER)
        with full_disk(), pytest.raises(DatabaseError):
            publishing.publish(scene.round, answer)
        scene.round.refresh_from_db()
        assert scene.round.state == "aggregating"
        assert not Blob.objects.exists() and not Issue.objects.exists()

    def test_a_suspended_value_stops_aggregating_publishing_and_sealing_anew(
        self, scene: Scene, asked: list[str]
    ) -> None:
        answer = answer_for(scene, SIGNER)
        suspend_all()
        round = Round.objects.select_related("run__study").get(pk=scene.round.pk)
        for action in (
            lambda: aggregating.aggregate(round),
            lambda: publishing.publish(round, answer),
            lambda: issuing._again(scene.run, round, ["c" * 64]),
        ):
            with pytest.raises(Refusal, match=r"reference\.lapsed"):
                action()
        assert asked == [] and not Blob.objects.exists()


def test_collateral_is_refreshed_by_beat() -> None:
    from enclave_jobs.queues import COLLATERAL_SECONDS
    from federation.celery import app

    app.loader.import_default_modules()
    line = app.conf.beat_schedule["collateral"]
    assert line["schedule"] == COLLATERAL_SECONDS and line["task"] in app.tasks
    started = time.monotonic()
    app.tasks[line["task"]].apply()  # with no address configured it asks nobody
    assert time.monotonic() - started < 5
