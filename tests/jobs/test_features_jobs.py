"""Features and their keys, as the coordinator sees them: uploaded once, named in an index, wrapped again."""

from __future__ import annotations

import hashlib
import os
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contracts.manifest import Spf, Split
from contracts.receipts import NO_RECEIPT
from contracts.refusal import Refusal
from contracts.roster import Roster, RosterEntry
from contracts.sealed.escrow import Escrow
from contracts.sealed.hpke import HpkeKey
from contracts.sealed.shards import ShardIndex, ShardRef
from contracts.sealed.shares import deposit, withdraw
from contracts.sealed.state import StateBinding, seal_state
from enclave_jobs.blobs import store as blobs
from enclave_jobs.blobs.models import Blob, Features, Wrapped
from enclave_jobs.conductor import aggregating, attendance, features, finishing, joining, restarting
from enclave_jobs.enclaves.models import Enclave, EnclaveState
from enclave_jobs.jobs.models import Job, JobKind
from enclave_jobs.runs.models import Round, Run, RunState
from federation.frozen import manifest_of
from federation.ids import new_id
from tests.federation.cast import API, Hospital
from tests.jobs.cast import Scene, answer, make_scene

pytestmark = pytest.mark.django_db
METHOD_2: dict[str, Any] = {"method": "method-2", "adapter": Spf(25, 25), "split": Split(1)}


@pytest.fixture(autouse=True)
def no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests have no broker; the sweep would find the work."""
    monkeypatch.setattr("enclave_jobs.dispatch.send", lambda _task, _id: None)


@pytest.fixture(autouse=True)
def store(settings: Any, tmp_path: Path) -> Path:
    settings.BLOB_DIR = tmp_path / "blobs"
    return settings.BLOB_DIR


@pytest.fixture
def scene() -> Scene:
    scene = make_scene(**METHOD_2)
    Enclave.objects.update(program="split_server")
    Round.objects.all().delete()
    return scene


def begin(hospital: Hospital, run: str, data: bytes, kind: str) -> Any:
    name = hashlib.sha256(data).hexdigest()
    body = {"sha256": name, "bytes": len(data), "run": run, "kind": kind}
    return hospital.call("POST", "blobs", body)


def bring(hospital: Hospital, run: str, data: bytes, kind: str = "update") -> str:
    begun = answer(begin(hospital, run, data, kind))
    if begun["offset"] < len(data):
        path = f"{API}blobs/uploads/{begun['upload']}"
        token = hospital.token("PATCH", path, data)
        headers = {"Authorization": f"Bearer {token}", "Upload-Offset": "0"}
        kinds = {"content_type": "application/octet-stream", "headers": headers}
        assert hospital.client.patch(path, data=data, **kinds).status_code == 200
    return hashlib.sha256(data).hexdigest()


TEST = b"sealed test rows"


def index_of(hospital: Hospital, training: bytes, validation: bytes) -> ShardIndex:
    shards = [("training", training, 40), ("validation", validation, 10), ("test", TEST, 10)]
    references = [ShardRef(p, hashlib.sha256(d).hexdigest(), len(d), n) for p, d, n in shards]  # type: ignore[arg-type]
    return ShardIndex(hospital.site.pk, "a" * 64, tuple(references))


def hand_in(
    hospital: Hospital, run: Run, enclave: Enclave, shards: list[bytes], keys: bytes, **index: Any
) -> Any:
    """Lease the job and hand its result in; returns the answer to the result."""
    joining.offer_all(run, enclave, manifest_of(run))
    job = answer(hospital.call("POST", "lease", {}))
    reported = msgspec.structs.replace(index_of(hospital, *shards), **index)
    result = {
        "lease": job["lease"],
        "index": msgspec.to_builtins(reported),
        "keys": {"sha256": hashlib.sha256(keys).hexdigest(), "bytes": len(keys)},
    }
    return hospital.call("POST", f"jobs/{job['id']}/result", result)


def another_enclave(run: Run) -> Enclave:
    Enclave.objects.filter(run=run).update(state=EnclaveState.LOST)
    Job.objects.filter(run=run).update(state="withdrawn")
    enclave = Enclave.objects.create(
        id=f"{run.pk}-2", run=run, epoch=2, program="split_server", state=EnclaveState.READY
    )
    Run.objects.filter(pk=run.pk).update(enclave_id=enclave.pk)
    run.refresh_from_db()
    return enclave


def test_a_site_brings_its_features_once_and_only_wraps_its_keys_for_the_next_enclave(scene: Scene) -> None:
    shards, keys = [os.urandom(100), os.urandom(50)], os.urandom(80)
    for data in (*shards, TEST):
        bring(scene.anna, scene.run.pk, data, "shard")
    bring(scene.anna, scene.run.pk, keys)
    assert answer(hand_in(scene.anna, scene.run, scene.enclave, shards, keys)) == {"state": "done"}
    row = Features.objects.get(site=scene.anna.site)
    assert (row.samples, row.bytes, row.sha256) == (40, 150 + len(TEST), index_of(scene.anna, *shards).hash)
    assert attendance.joined(scene.run) == [scene.anna.site.pk]

    joining.offer_all(scene.run, another_enclave(scene.run), manifest_of(scene.run))
    kinds = dict(Job.objects.filter(enclave=f"{scene.run.pk}-2").values_list("site_id", "kind"))
    assert kinds == {scene.anna.site.pk: JobKind.REWRAP, scene.berta.site.pk: JobKind.FEATURES}
    assert not Wrapped.objects.filter(enclave_id=f"{scene.run.pk}-2").exists()


def test_an_index_of_files_that_are_not_here_or_of_another_site_is_refused(scene: Scene) -> None:
    shards, keys = [os.urandom(100), os.urandom(50)], os.urandom(80)
    bring(scene.anna, scene.run.pk, shards[0], "shard")
    bring(scene.anna, scene.run.pk, keys)
    missing = hand_in(scene.anna, scene.run, scene.enclave, shards, keys)
    assert answer(missing)["code"] == "contribution.not_uploaded"
    Job.objects.update(state="waiting", lease_deadline=None)
    foreign = hand_in(scene.anna, scene.run, scene.enclave, shards, keys, site=scene.berta.site.pk)
    assert answer(foreign)["code"] == "features.bad_index"
    assert not Features.objects.exists()


def test_features_that_the_enclave_refused_leave_the_site_out(scene: Scene) -> None:
    shards, keys = [os.urandom(100), os.urandom(50)], os.urandom(80)
    for data in (*shards, TEST):
        bring(scene.anna, scene.run.pk, data, "shard")
    bring(scene.anna, scene.run.pk, keys)
    hand_in(scene.anna, scene.run, scene.enclave, shards, keys)
    features.refused(scene.run, scene.anna.site.pk, "features.labels")
    assert attendance.joined(scene.run) == []


def test_two_runs_of_a_site_share_a_shard_and_the_last_one_takes_it_along(
    scene: Scene, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finishing.client, "forget", lambda _run: None)
    monkeypatch.setattr(finishing.client, "stop", lambda _enclave: None)
    shards, keys = [os.urandom(100), os.urandom(50)], os.urandom(80)
    identifier = new_id()
    text = scene.run.manifest.replace(scene.run.pk, identifier)
    second = Run.objects.create(
        id=identifier,
        study=scene.run.study,
        manifest=text,
        manifest_hash=hashlib.sha256(text.encode()).hexdigest(),
        state=RunState.RUNNING,
        enclave_id=f"{identifier}-1",
    )
    enclave = Enclave.objects.create(id=f"{identifier}-1", run=second, epoch=1, program="split_server")
    for run, at in ((scene.run, scene.enclave), (second, enclave)):
        for data in (*shards, TEST):
            bring(scene.anna, run.pk, data, "shard")
        own = keys + run.pk.encode()
        bring(scene.anna, run.pk, own)
        assert answer(hand_in(scene.anna, run, at, shards, own)) == {"state": "done"}
    assert Blob.objects.filter(kind="shard").count() == 3
    shard = blobs.path_of(hashlib.sha256(shards[0]).hexdigest())
    for run, stays in ((scene.run, True), (second, False)):
        Run.objects.filter(pk=run.pk).update(state=RunState.FINISHED)
        finishing.stop_enclaves(run.pk)
        assert shard.exists() == stays
    # Whose run comes later uploads again what was removed.
    Run.objects.filter(pk=second.pk).update(state=RunState.RUNNING)
    bring(scene.anna, second.pk, shards[0], "shard")
    assert shard.exists()
    assert answer(begin(scene.berta, second.pk, shards[0], "shard"))["code"] == "blob.foreign"


def test_a_site_gets_its_own_share_of_the_state_key_with_the_job_to_wrap(scene: Scene, store: Path) -> None:
    sites = {hospital.site.pk: HpkeKey.generate() for hospital in (scene.anna, scene.berta)}
    manifest = scene.run.manifest_hash
    escrow = deposit(os.urandom(32), {site: key.public for site, key in sites.items()}, 2, manifest)
    sealed = BytesIO()
    binding = StateBinding("split_server", manifest, 1, NO_RECEIPT)
    name = seal_state(BytesIO(b"state"), sealed, key=os.urandom(32), binding=binding, escrow=escrow).sha256
    path = blobs.path_of(name)
    path.parent.mkdir(parents=True)
    path.write_bytes(sealed.getvalue())
    Round.objects.create(run=scene.run, number=1, state="published", state_blob=name, receipt={})
    joining.offer_all(scene.run, another_enclave(scene.run), manifest_of(scene.run))
    for site, key in sites.items():
        reported = Job.objects.get(site_id=site, enclave=f"{scene.run.pk}-2").inputs["escrow"]
        own = msgspec.convert(reported, Escrow)
        assert list(own.shares) == [site]
        assert withdraw(own, site, key, manifest) == withdraw(escrow, site, key, manifest)


def test_a_lost_split_server_keeps_the_round_whose_roster_was_signed(scene: Scene) -> None:
    for state in ("collecting", "countersigning", "aggregating"):
        round = Round.objects.create(run=scene.run, number=1, state=state)
        restarting._mend_round(scene.run)
        round.refresh_from_db()
        assert round.state == state
        round.delete()


@pytest.mark.parametrize("says", ["the same", "it is at work"])
def test_a_server_that_another_worker_restored_meanwhile_is_asked_again_before_the_run_is_given_up(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, says: str
) -> None:
    roster = Roster(scene.run.manifest_hash, 2, (RosterEntry("anna", "a" * 64),), NO_RECEIPT, True)
    listed = msgspec.to_builtins(roster)
    round = Round.objects.create(run=scene.run, number=2, state="aggregating", roster=listed)
    wrong = Refusal("round.wrong_receipt", round=2, fault="the sites have seen another one")
    answers: list[Refusal | None] = [wrong, wrong if says == "the same" else None]

    def once(*_about: Any, **_more: Any) -> None:
        said = answers.pop(0)
        if said is not None:
            raise said

    monkeypatch.setattr("enclave_jobs.supervisor.client.once", once)
    monkeypatch.setattr("enclave_jobs.conductor.restoring.restore", lambda _run, _enclave: "before")
    monkeypatch.setattr("federation.attestation.gate.require_in_force", lambda _policy: None)
    if says == "the same":
        with pytest.raises(Refusal, match="wrong_receipt"):
            aggregating.aggregate(round)
    else:
        aggregating.aggregate(round)
    assert answers == []
