"""Leases over the agents' API: who holds a job, until when, and what happens to those who come late."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from contracts.roster import Roster, RosterEntry, countersign
from enclave_jobs.blobs.models import Blob
from enclave_jobs.conductor import contributions, sweeping
from enclave_jobs.enclaves.models import Admission
from enclave_jobs.jobs import leases
from enclave_jobs.jobs.models import Job, JobKind, JobState
from enclave_jobs.runs.models import Contribution
from federation.audit.models import AuditEntry
from federation.studies.models import Event
from tests.federation.cast import Hospital
from tests.jobs.cast import UPDATE, Scene, answer, make_scene

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def no_broker(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """What would be dispatched; these tests have no broker, and the sweep would find the work."""
    sent: list[tuple[str, Any]] = []
    monkeypatch.setattr("enclave_jobs.dispatch.send", lambda task, id: sent.append((task, id)))
    return sent


@pytest.fixture
def scene() -> Scene:
    return make_scene()


def code(response: Any) -> str:
    return answer(response)["code"]


def state_of(scene: Scene, hospital: Hospital) -> str:
    return Contribution.objects.get(round=scene.round, site=hospital.site).state


def overdue(job: Job) -> None:
    Job.objects.filter(pk=job.pk).update(lease_deadline=timezone.now() - timedelta(seconds=1))


def progress(hospital: Hospital, job: Job, lease: int) -> Any:
    return hospital.call(
        "POST", f"jobs/{job.pk}/progress", {"lease": lease, "stage": "training", "fraction": 0.5}
    )


def result(hospital: Hospital, job: Job, lease: int, **fields: Any) -> Any:
    return hospital.call("POST", f"jobs/{job.pk}/result", {"lease": lease, **fields})


def train_result(hospital: Hospital, job: Job, lease: int, **changes: Any) -> Any:
    return result(hospital, job, lease, **{"update": UPDATE, "samples": 5, **changes})


def uploaded(scene: Scene, hospital: Hospital, **changes: Any) -> Blob:
    fields = {
        "sha256": UPDATE["sha256"],
        "bytes": 10,
        "owner_site": hospital.site,
        "run": scene.run,
        "complete": True,
    }
    return Blob.objects.create(**{**fields, **changes})


def test_a_site_without_work_is_told_when_to_ask_again(scene: Scene) -> None:
    response = scene.anna.call("POST", "lease", {})
    assert (response.status_code, response.headers["Retry-After"]) == (204, "2")


def test_a_job_is_leased_once_with_a_number_and_a_deadline(scene: Scene) -> None:
    job = scene.offer(scene.anna, previous=None)
    reported = answer(scene.anna.call("POST", "lease", {}))
    assert (reported["id"], reported["kind"], reported["lease"], reported["round"]) == (job.pk, "train", 1, 1)
    assert reported["manifest_hash"] == scene.run.manifest_hash
    assert 50 < reported["deadline"] - timezone.now().timestamp() <= leases.LEASE_SECONDS
    assert state_of(scene, scene.anna) == "leased"


def test_who_asks_while_it_holds_a_lease_gets_the_same_job_and_the_last_number_is_late(scene: Scene) -> None:
    """An agent does one job at a time: it never heard of the first, or it has begun again."""
    job, first = scene.leased(scene.anna)
    uploaded(scene, scene.anna)
    scene.offer(scene.anna, JobKind.JOIN)
    again = answer(scene.anna.call("POST", "lease", {}))
    assert (again["id"], again["lease"]) == (job.pk, first + 1)
    assert code(train_result(scene.anna, job, first)) == "lease.late"
    assert train_result(scene.anna, job, again["lease"]).status_code == 200
    assert state_of(scene, scene.anna) == "submitted"


def test_a_job_that_is_asked_for_again_and_again_is_given_every_ten_seconds(scene: Scene) -> None:
    job, _ = scene.leased(scene.anna)
    for _ in range(leases.MAX_ATTEMPTS - 1):
        assert answer(scene.anna.call("POST", "lease", {}))["id"] == job.pk
    for _ in range(2):
        waits = scene.anna.call("POST", "lease", {"wait": 20})
        assert waits.status_code == 204
        look_after = float(waits.headers["FedSlice-Wait"].split()[2])
        assert leases.AGAIN_SECONDS - 5 < look_after <= leases.AGAIN_SECONDS, "the line looks then"
        passed = timezone.now() - timedelta(seconds=leases.AGAIN_SECONDS)
        Job.objects.filter(pk=job.pk).update(heartbeat_at=passed)
        assert answer(scene.anna.call("POST", "lease", {}))["id"] == job.pk


def test_a_wait_longer_than_proxies_keep_a_request_is_refused(scene: Scene) -> None:
    assert code(scene.anna.call("POST", "lease", {"wait": 51})) == "request.invalid"


def test_who_is_kept_waiting_is_told_so_to_the_server_alone(scene: Scene) -> None:
    """Where nothing keeps requests, the agent is sent away as ever."""
    response = scene.anna.call("POST", "lease", {"wait": 20})
    assert (response.status_code, response.headers["Retry-After"]) == (204, "2")
    assert response.headers["FedSlice-Wait"].split()[:2] == [scene.anna.site.pk, "20"]


def test_each_site_gets_its_own_jobs_only(scene: Scene) -> None:
    scene.offer(scene.anna)
    assert scene.berta.call("POST", "lease", {}).status_code == 204


def test_progress_moves_the_deadline(scene: Scene) -> None:
    job, lease = scene.leased(scene.anna)
    Job.objects.filter(pk=job.pk).update(lease_deadline=timezone.now() + timedelta(seconds=2))
    before = Job.objects.get(pk=job.pk).lease_deadline
    assert progress(scene.anna, job, lease).status_code == 200
    job.refresh_from_db()
    assert job.lease_deadline > before + timedelta(seconds=30)
    assert job.progress["stage"] == "training"
    assert state_of(scene, scene.anna) == "working"


def test_a_lease_that_ran_out_is_late_also_before_the_sweep(scene: Scene) -> None:
    job, lease = scene.leased(scene.anna)
    uploaded(scene, scene.anna)
    overdue(job)
    assert code(progress(scene.anna, job, lease)) == "lease.late"
    assert code(train_result(scene.anna, job, lease)) == "lease.late"
    assert state_of(scene, scene.anna) == "leased"


def test_the_sweep_lets_the_job_wait_again_and_the_next_lease_has_the_next_number(scene: Scene) -> None:
    job, first = scene.leased(scene.anna)
    uploaded(scene, scene.anna)
    overdue(job)
    for late in leases.expire_overdue():
        contributions.put_back(late)
    assert state_of(scene, scene.anna) == "offered"
    again = answer(scene.anna.call("POST", "lease", {}))
    assert (again["id"], again["lease"]) == (job.pk, first + 1)
    assert code(train_result(scene.anna, job, first)) == "lease.late"
    assert train_result(scene.anna, job, again["lease"]).status_code == 200
    assert state_of(scene, scene.anna) == "submitted"


def test_a_heartbeat_that_beats_the_sweep_keeps_the_lease(scene: Scene) -> None:
    job, lease = scene.leased(scene.anna)
    progress(scene.anna, job, lease)
    assert leases.expire_overdue() == []
    assert Job.objects.get(pk=job.pk).state == JobState.LEASED


def test_a_foreign_lease_is_refused_and_nothing_changes(scene: Scene) -> None:
    job, lease = scene.leased(scene.anna)
    before = Job.objects.values().get(pk=job.pk)
    body = {"lease": lease, "code": "internal", "facts": {}}
    for thief in (scene.berta, scene.stranger):
        assert code(progress(thief, job, lease)) == "lease.foreign"
        assert code(train_result(thief, job, lease)) == "lease.foreign"
        assert code(thief.call("POST", f"jobs/{job.pk}/failure", body)) == "lease.foreign"
    assert Job.objects.values().get(pk=job.pk) == before
    assert code(progress(scene.anna, Job(id="nothing"), 1)) == "job.unknown"


def test_a_result_is_taken_once_and_repeating_it_is_answered_alike(scene: Scene) -> None:
    job, lease = scene.leased(scene.anna)
    uploaded(scene, scene.anna)
    assert answer(train_result(scene.anna, job, lease)) == {"state": "done"}
    assert answer(train_result(scene.anna, job, lease)) == {"state": "done"}
    assert code(train_result(scene.anna, job, lease, samples=6)) == "lease.late"
    assert Contribution.objects.get(round=scene.round, site=scene.anna.site).samples == 5


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"owner_site": "berta"}, "contribution.not_uploaded"),
        ({"complete": False}, "contribution.not_uploaded"),
        ({"sha256": "1" * 64}, "contribution.not_uploaded"),
        ({"bytes": 11}, "contribution.size_mismatch"),
    ],
)
def test_a_result_must_name_what_this_site_uploaded(
    scene: Scene, changes: dict[str, Any], expected: str
) -> None:
    job, lease = scene.leased(scene.anna)
    if "owner_site" in changes:
        changes = {"owner_site": scene.berta.site}
    uploaded(scene, scene.anna, **changes)
    assert code(train_result(scene.anna, job, lease)) == expected
    assert state_of(scene, scene.anna) == "leased"


def test_an_update_of_an_earlier_round_is_refused_as_replayed(scene: Scene) -> None:
    uploaded(scene, scene.anna)
    earlier = scene.run.rounds.create(number=7, state="published")
    Contribution.objects.create(round=earlier, site=scene.anna.site, blob=UPDATE["sha256"], state="accepted")
    job, lease = scene.leased(scene.anna)
    assert code(train_result(scene.anna, job, lease)) == "contribution.replayed"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"update": UPDATE, "samples": 0},
        {"update": {"sha256": "X" * 64, "bytes": 1}, "samples": 1},
        {"update": UPDATE, "samples": 1, "rows": ["a row"]},
        {"countersignature": "0" * 128},
    ],
)
def test_a_result_of_another_form_is_refused(scene: Scene, body: dict[str, Any]) -> None:
    job, lease = scene.leased(scene.anna)
    assert code(result(scene.anna, job, lease, **body)) == "job.result_invalid"


def test_a_closed_round_takes_no_more(scene: Scene) -> None:
    job, lease = scene.leased(scene.anna)
    uploaded(scene, scene.anna)
    leases.expire(round=scene.round)
    assert code(train_result(scene.anna, job, lease)) == "lease.late"


def test_a_job_of_a_lost_enclave_asks_the_agent_to_attest_anew(scene: Scene) -> None:
    job, lease = scene.leased(scene.anna)
    scene.run.enclave_id = f"{scene.run.pk}-2"
    scene.run.save()
    leases.withdraw(run=scene.run)
    assert code(progress(scene.anna, job, lease)) == "run.reattest"
    assert code(train_result(scene.anna, job, lease)) == "run.reattest"


def test_a_failure_that_a_retry_can_mend_waits_a_little_and_then_the_site_is_out(scene: Scene) -> None:
    for attempt in range(1, leases.MAX_ATTEMPTS + 1):
        job, lease = scene.leased(scene.anna)
        body = {"lease": lease, "code": "wire.closed", "facts": {}}
        reported = answer(scene.anna.call("POST", f"jobs/{job.pk}/failure", body))
        last = attempt == leases.MAX_ATTEMPTS
        assert reported == {"state": "failed" if last else "waiting"}
        assert scene.anna.call("POST", "lease", {}).status_code == 204
        Job.objects.update(not_before=None)
    contribution = Contribution.objects.get(round=scene.round, site=scene.anna.site)
    assert (contribution.state, contribution.error_code) == ("refused", "wire.closed")


def test_a_failure_that_nothing_mends_puts_the_site_out_at_once(scene: Scene) -> None:
    job, lease = scene.leased(scene.anna)
    body = {"lease": lease, "code": "model.file_changed", "facts": {"file": "config.json"}}
    assert answer(scene.anna.call("POST", f"jobs/{job.pk}/failure", body)) == {"state": "failed"}
    assert state_of(scene, scene.anna) == "refused"
    entry = AuditEntry.objects.get(action="contribution.refused")
    assert entry.target == f"run:{scene.run.pk}"
    assert entry.facts == {"code": "model.file_changed", "file": "config.json", "site": scene.anna.site.pk,
                           "round": scene.round.number}  # fmt: skip
    assert Event.objects.filter(
        kind="job.failed", site=scene.anna.site, facts__code="model.file_changed"
    ).exists()


def test_an_unknown_failure_code_is_an_internal_error_and_its_words_are_not_kept(scene: Scene) -> None:
    job, lease = scene.leased(scene.anna)
    body = {"lease": lease, "code": "made.up", "facts": {"row": "a patient's words"}}
    scene.anna.call("POST", f"jobs/{job.pk}/failure", body)
    job.refresh_from_db()
    assert (job.error_code, job.facts) == ("internal", {})


def test_joining_needs_the_enclave_to_have_admitted_the_client_slice(scene: Scene) -> None:
    job, lease = scene.leased(scene.anna, JobKind.JOIN)
    assert code(result(scene.anna, job, lease)) == "run.not_admitted"
    Admission.objects.create(enclave=scene.enclave, site=scene.berta.site, signing_key="0" * 64)
    assert code(result(scene.anna, job, lease)) == "run.not_admitted"
    Admission.objects.create(enclave=scene.enclave, site=scene.anna.site, signing_key="1" * 64)
    assert answer(result(scene.anna, job, lease)) == {"state": "done"}


def test_a_countersignature_must_be_by_the_sites_own_key(scene: Scene) -> None:
    roster = Roster(scene.run.manifest_hash, 1, (RosterEntry(scene.anna.site.pk, "0" * 64),), "0" * 64, True)
    from msgspec import to_builtins

    scene.round.state, scene.round.roster = "countersigning", to_builtins(roster)
    scene.round.save()
    job, lease = scene.leased(scene.anna, JobKind.COUNTERSIGN)
    forged = countersign(roster, scene.berta.key)
    assert code(result(scene.anna, job, lease, countersignature=forged)) == "sealing.bad_signature"
    signed = countersign(roster, scene.anna.key)
    assert result(scene.anna, job, lease, countersignature=signed).status_code == 200
    contribution = Contribution.objects.get(round=scene.round, site=scene.anna.site)
    assert contribution.countersignature == signed


def test_a_paused_run_gives_no_work_but_takes_what_was_leased(scene: Scene) -> None:
    job, lease = scene.leased(scene.anna)
    scene.offer(scene.berta)
    uploaded(scene, scene.anna)
    scene.run.state = "paused"
    scene.run.save()
    assert scene.berta.call("POST", "lease", {}).status_code == 204
    assert train_result(scene.anna, job, lease).status_code == 200


def test_a_run_that_is_over_gives_no_work(scene: Scene) -> None:
    scene.offer(scene.anna)
    scene.run.state = "failed"
    scene.run.save()
    assert scene.anna.call("POST", "lease", {}).status_code == 204


def test_a_strangers_run_is_unknown_to_him(scene: Scene) -> None:
    for path in ("manifest", "aggregator/evidence", "aggregator/challenge", "aggregator/admit"):
        method, body = ("GET", None) if path == "manifest" else ("POST", {})
        if path == "aggregator/evidence":
            body = {"nonce": "0" * 64}
        if path == "aggregator/admit":
            claims = dict.fromkeys(("nonce", "hpke_key", "signing_key", "manifest"), "0" * 64)
            evidence = {"quote": "", "collateral": {}, "claims": {**claims, "program": "client_slice"}}
            body = {"evidence": evidence, "endorsement": "0" * 128}
        response = scene.stranger.call(method, f"runs/{scene.run.pk}/{path}", body)
        assert (response.status_code, code(response)) == (404, "run.unknown"), path
    assert answer(scene.anna.call("GET", f"runs/{scene.run.pk}/manifest"))["manifest"] == scene.run.manifest


def test_without_a_token_nothing_answers(scene: Scene) -> None:
    for method, path in (("POST", "lease"), ("POST", "blobs"), ("GET", f"runs/{scene.run.pk}/manifest")):
        response = scene.anna.call(method, path, {} if method == "POST" else None, token="")
        assert (response.status_code, code(response)) == (401, "auth.missing")


def test_the_sweep_moves_every_live_run_on(scene: Scene, no_broker: list[tuple[str, Any]]) -> None:
    job, _ = scene.leased(scene.anna)
    overdue(job)
    sweeping.sweep()
    assert no_broker == [("enclave_jobs.advance_run", scene.run.pk)]
    assert Job.objects.get(pk=job.pk).state == JobState.WAITING
    assert state_of(scene, scene.anna) == "offered"


@pytest.mark.parametrize(
    "measures", [{"wait_seconds": "a row"}, {"a row of text": 1.0}, {"x": -1.0}, {"x": [1]}]
)
def test_measures_are_numbers_and_nothing_else(scene: Scene, measures: dict[str, Any]) -> None:
    job, lease = scene.leased(scene.anna)
    uploaded(scene, scene.anna)
    assert code(train_result(scene.anna, job, lease, measures=measures)) == "job.result_invalid"
    train_result(scene.anna, job, lease, measures={"wait_seconds": 1.5, "checks": 3})
    kept = Contribution.objects.get(round=scene.round, site=scene.anna.site)
    assert (kept.state, kept.measures) == ("submitted", {"wait_seconds": 1.5, "checks": 3.0})


def test_who_asks_and_has_no_job_costs_few_looks_into_the_database(scene: Scene) -> None:
    """A thousand hospitals ask so all day: who it is, that the token is fresh, which machine, and whether
    there is a job."""
    Job.objects.all().delete()
    scene.anna.call("POST", "lease", {"wait": 25})  # notes the machine, once
    with CaptureQueriesContext(connection) as asked:
        waits = scene.anna.call("POST", "lease", {"wait": 25})
    assert waits.status_code == 204
    statements = [one["sql"] for one in asked if not one["sql"].startswith(("SAVEPOINT", "RELEASE"))]
    assert len(statements) == 3, statements
