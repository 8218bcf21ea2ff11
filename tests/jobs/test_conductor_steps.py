"""Single steps of the conductor against the database: deadlines, quorum, rosters, receipts, overtaken
steps."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from django.utils import timezone

from contracts.jobs import Countersigning, inputs_of
from contracts.receipts import NO_RECEIPT, Best, InstanceCount, Receipt, ReceiptInput, Scoring
from contracts.refusal import Refusal
from contracts.roster import countersign, parse_roster, roster_hash
from contracts.sealed.container import FileRef
from contracts.server_calls import RoundDone
from contracts.server_statements import sign_receipt
from contracts.signing import SigningKey
from enclave_jobs.blobs.models import Blob, Issue
from enclave_jobs.conductor import (
    advancing,
    attendance,
    collecting,
    countersigning,
    joining,
    publishing,
    questions,
    restarting,
    rounds,
    starting,
)
from enclave_jobs.conductor.methods import method_1
from enclave_jobs.enclaves.models import Admission, Enclave, EnclaveState
from enclave_jobs.jobs.models import Job, JobKind, JobState
from enclave_jobs.runs.models import Contribution, Round, RoundKind, Run
from enclave_jobs.supervisor import client
from federation.attestation.models import LogEntry
from federation.frozen import manifest_of
from federation.studies.models import Event
from tests.jobs.cast import Scene, make_scene

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """What would be dispatched, were there a broker."""
    tasks: list[tuple[str, Any]] = []
    monkeypatch.setattr("enclave_jobs.dispatch.send", lambda task, id: tasks.append((task, id)))
    return tasks


@pytest.fixture
def scene() -> Scene:
    return make_scene()


def submit(scene: Scene, *hospitals: Any) -> None:
    for number, hospital in enumerate(hospitals):
        changes = {"state": "submitted", "blob": f"{number + 1:064x}", "bytes": 10, "samples": 5}
        Contribution.objects.filter(round=scene.round, site=hospital.site).update(**changes)


def contribution(scene: Scene, hospital: Any) -> Contribution:
    return Contribution.objects.get(round=scene.round, site=hospital.site)


def test_an_overtaken_step_fails_no_run(scene: Scene) -> None:
    def step() -> None:
        Round.objects.filter(pk=scene.round.pk).update(state="published")
        raise Refusal("run.no_quorum", round=1, found=0, quorum=1)

    advancing._guarded(scene.run, advancing.position(scene.run.pk), step)
    scene.run.refresh_from_db()
    assert scene.run.state == "running"


def test_answers_about_a_round_are_forgotten_under_the_keys_that_they_were_asked_by(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, forgotten = list[str](), list[str]()
    monkeypatch.setattr(client, "once", lambda *_, key, **__: asked.append(key))
    monkeypatch.setattr(client, "forget", lambda _run, keys: forgotten.extend(keys))
    submit(scene, scene.anna, scene.berta)
    for row in scene.round.contributions.filter(state="submitted"):
        method_1.is_good(row)
        Contribution.objects.filter(pk=row.pk).update(good_for=scene.run.enclave_id)
    countersigning.fix_roster(scene.round, manifest_of(scene.run))
    scene.round.refresh_from_db()
    questions.ask(scene.round, method_1.question(scene.round))
    for number in (scene.round.number, scene.round.number + 2):
        questions.forget_older(Round(run=scene.run, number=number))
    assert not forgotten, "they may be asked again"
    questions.forget_older(Round(run=scene.run, number=scene.round.number + 3))
    assert sorted(forgotten) == sorted(asked) and len(asked) == 3


def test_a_step_that_was_not_overtaken_ends_the_run_with_its_code(scene: Scene, sent: list[Any]) -> None:
    scene.offer(scene.anna)

    def step() -> None:
        raise Refusal("run.no_quorum", round=1, found=0, quorum=1)

    advancing._guarded(scene.run, advancing.position(scene.run.pk), step)
    scene.run.refresh_from_db()
    assert (scene.run.state, scene.run.error_code) == ("failed", "run.no_quorum")
    assert Job.objects.get().state == JobState.WITHDRAWN


def test_a_refusal_that_a_retry_mends_leaves_the_run_as_it_is(scene: Scene) -> None:
    def step() -> None:
        raise Refusal("supervisor.unreachable")

    advancing._guarded(scene.run, advancing.position(scene.run.pk), step)
    scene.run.refresh_from_db()
    assert scene.run.state == "running"


def test_a_loss_that_an_overtaken_step_meets_leaves_the_new_enclave_alone(scene: Scene) -> None:
    def step() -> None:
        Enclave.objects.filter(pk=scene.enclave.pk).update(state=EnclaveState.LOST)
        Enclave.objects.create(id="next", run=scene.run, epoch=2, program="aggregator", state="ready")
        raise Refusal("program.died", program="aggregator", status=-9)

    advancing._guarded(scene.run, advancing.position(scene.run.pk), step)
    assert Enclave.objects.get(pk="next").state == EnclaveState.READY


def test_a_lost_enclave_withdraws_its_jobs_and_starts_the_run_anew(scene: Scene) -> None:
    job = scene.offer(scene.anna)
    restarting.lost(scene.run, Refusal("program.died", program="aggregator", status=-9))
    scene.run.refresh_from_db()
    assert scene.run.state == "starting"
    assert Job.objects.get(pk=job.pk).state == JobState.WITHDRAWN
    assert Enclave.objects.get().state == EnclaveState.LOST
    scene.round.refresh_from_db()
    assert scene.round.state == "collecting"


def test_a_worker_that_comes_too_late_to_the_start_makes_no_second_enclave(scene: Scene) -> None:
    """It read the run while it was starting; meanwhile another worker has made the enclave ready."""
    stale = Run.objects.get(pk=scene.run.pk)
    stale.state = "starting"
    starting.advance(stale)
    assert Enclave.objects.count() == 1


@pytest.mark.parametrize("state", ["countersigning", "aggregating"])
def test_a_lost_enclave_costs_a_round_whose_roster_was_fixed(scene: Scene, state: str) -> None:
    submit(scene, scene.anna, scene.berta)
    Round.objects.filter(pk=scene.round.pk).update(state=state)
    restarting.lost(scene.run, Refusal("supervisor.no_enclave"))
    scene.round.refresh_from_db()
    assert scene.round.state == "failed"
    assert contribution(scene, scene.anna).state == "dropped"


def test_before_its_deadline_a_round_waits_for_all() -> None:
    scene = make_scene()
    submit(scene, scene.anna)
    Round.objects.filter(pk=scene.round.pk).update(deadline=timezone.now() + timedelta(seconds=30))
    scene.round.refresh_from_db()
    collecting.advance(scene.round)
    scene.round.refresh_from_db()
    assert scene.round.state == "collecting"


def test_a_quorum_is_awaited_three_times_and_then_the_run_ends(scene: Scene) -> None:
    """No contribution, one minute a wait: after the fourth deadline there is nothing to wait for."""
    for passed, expected in ((1, 1), (30, 1), (61, 2), (121, 3), (150, 3)):
        scene.round.deadline = timezone.now() - timedelta(seconds=passed)
        collecting.advance(scene.round)
        assert Event.objects.filter(kind="quorum.awaited").count() == expected
        Event.objects.update(at=timezone.now() + timedelta(seconds=1))
    scene.round.deadline = timezone.now() - timedelta(seconds=181)
    with pytest.raises(Refusal) as caught:
        collecting.advance(scene.round)
    assert caught.value.code == "run.no_quorum"


def test_a_quorum_that_cannot_come_is_not_waited_for(scene: Scene) -> None:
    Contribution.objects.filter(round=scene.round).update(state="refused")
    with pytest.raises(Refusal) as caught:
        collecting.advance(scene.round)
    assert caught.value.code == "run.no_quorum"


def test_a_site_that_joined_late_is_let_into_a_round_that_is_short_of_its_quorum(scene: Scene) -> None:
    joined(scene, scene.anna, scene.berta)
    Contribution.objects.filter(site=scene.berta.site).delete()
    Contribution.objects.filter(site=scene.anna.site).update(state="refused")
    collecting.advance(scene.round)
    assert contribution(scene, scene.berta).state == "offered"
    method_1.offer_jobs(scene.round)
    assert Job.objects.filter(site=scene.berta.site, kind=JobKind.TRAIN, state=JobState.WAITING).exists()


def test_closing_a_round_drops_who_is_late_and_asks_the_others_to_countersign(scene: Scene) -> None:
    late = scene.offer(scene.berta)
    submit(scene, scene.anna)
    countersigning.fix_roster(scene.round, manifest_of(scene.run))
    scene.round.refresh_from_db()
    roster = parse_roster(scene.round.roster)
    assert [(entry.site, entry.sha256) for entry in roster.inputs] == [(scene.anna.site.pk, f"{1:064x}")]
    assert (roster.round, roster.previous) == (1, NO_RECEIPT)
    dropped = contribution(scene, scene.berta)
    assert (dropped.state, dropped.error_code) == ("dropped", "contribution.late")
    assert Job.objects.get(pk=late.pk).state == JobState.EXPIRED
    asked = Job.objects.get(kind=JobKind.COUNTERSIGN)
    given = inputs_of("countersign", bytes(asked.given), Countersigning)
    assert asked.site == scene.anna.site and given.roster == roster
    assert LogEntry.objects.filter(kind="roster.fixed").count() == 1
    countersigning.fix_roster(scene.round, manifest_of(scene.run))
    assert LogEntry.objects.filter(kind="roster.fixed").count() == 1


def signed_round(scene: Scene) -> dict[str, str]:
    submit(scene, scene.anna, scene.berta)
    countersigning.fix_roster(scene.round, manifest_of(scene.run))
    scene.round.refresh_from_db()
    signatures = {}
    for hospital in (scene.anna, scene.berta):
        signatures[hospital.site.pk] = countersign(parse_roster(scene.round.roster), hospital.key)
        Contribution.objects.filter(round=scene.round, site=hospital.site).update(
            countersignature=signatures[hospital.site.pk]
        )
    Job.objects.filter(kind=JobKind.COUNTERSIGN).update(state=JobState.DONE)
    return signatures


def test_a_countersigned_roster_is_logged_before_anything_is_aggregated(
    scene: Scene, sent: list[Any]
) -> None:
    signatures = signed_round(scene)
    countersigning.advance(scene.round)
    scene.round.refresh_from_db()
    assert scene.round.state == "aggregating"
    body = msgspec.json.decode(LogEntry.objects.get(kind="roster").data)["body"]
    assert body["countersignatures"] == signatures


def test_a_site_that_will_not_sign_costs_the_round_not_the_run(scene: Scene) -> None:
    signed_round(scene)
    Contribution.objects.filter(round=scene.round, site=scene.berta.site).update(countersignature="")
    Job.objects.filter(kind=JobKind.COUNTERSIGN, site=scene.berta.site).update(state=JobState.FAILED)
    countersigning.advance(scene.round)
    scene.round.refresh_from_db()
    assert scene.round.state == "failed"
    assert contribution(scene, scene.berta).error_code == "countersignature.missing"
    assert contribution(scene, scene.anna).error_code == "contribution.dropped"
    scene.run.refresh_from_db()
    assert scene.run.state == "running"


@pytest.mark.parametrize("taken_away", [1, 2])
def test_a_contribution_that_is_taken_away_does_not_make_the_signatures_enough(
    scene: Scene, taken_away: int
) -> None:
    """The roster names both hospitals; of no contributions at all, all were once signed."""
    signed_round(scene)
    for hospital in (scene.berta, scene.anna)[:taken_away]:
        Contribution.objects.filter(round=scene.round, site=hospital.site).update(
            state="dropped", countersignature=""
        )
    countersigning.advance(scene.round)
    scene.round.refresh_from_db()
    assert scene.round.state == "failed"
    assert not LogEntry.objects.filter(kind="roster").exists()


def answer_for(scene: Scene, key: SigningKey, **changes: Any) -> RoundDone:
    signed_round(scene)
    countersigning.advance(scene.round)
    scene.round.refresh_from_db()
    roster = parse_roster(scene.round.roster)
    receipt = Receipt(
        version=1,
        manifest=scene.run.manifest_hash,
        run=scene.run.pk,
        round=1,
        roster=roster_hash(roster),
        inputs=tuple(ReceiptInput(entry.site, entry.sha256, 10, 7) for entry in roster.inputs),
        output="a" * 64,
        state="b" * 64,
        metrics={"pooled": {"accuracy": 0.5}},
        previous=NO_RECEIPT,
        program="aggregator",
        measurement="1" * 64,
        development=True,
        issued=1,
        instances=(InstanceCount(scene.anna.site.pk, 1, HOLDER),),
        scoring=Scoring((scene.anna.site.pk,), None),
    )
    Enclave.objects.filter(pk=scene.enclave.pk).update(signing_key=SIGNER.public)
    signed = sign_receipt(msgspec.structs.replace(receipt, **changes), key)
    files = FileRef("a" * 64, 3), FileRef("b" * 64, 4)
    return RoundDone(*files, {"pooled": {"accuracy": 0.5}}, signed)


SIGNER = SigningKey.generate()
HOLDER = "d" * 64


def test_a_receipt_that_fits_is_logged_and_published_once(scene: Scene) -> None:
    answer = answer_for(scene, SIGNER)
    stale = Round.objects.select_related("run").get(pk=scene.round.pk)
    publishing.publish(scene.round, answer)
    # A second worker was handed the same answer, and comes later.
    publishing.publish(stale, answer)
    scene.round.refresh_from_db()
    assert (scene.round.state, scene.round.next_blob, scene.round.state_blob) == (
        "published",
        "a" * 64,
        "b" * 64,
    )
    assert LogEntry.objects.filter(kind="receipt").count() == 1
    assert {blob.sha256: blob.kind for blob in Blob.objects.all()} == {"a" * 64: "next", "b" * 64: "state"}
    assert Issue.objects.get().recipients == [HOLDER]
    row = contribution(scene, scene.anna)
    assert (row.state, row.samples) == ("accepted", 7)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"manifest": "0" * 64}, "manifest"),
        ({"best": Best("0" * 64, 1, 0.1)}, "course"),
        ({"run": "another"}, "run"),
        ({"round": 2}, "round"),
        ({"roster": "0" * 64}, "roster"),
        ({"inputs": ()}, "inputs"),
        ({"output": "c" * 64}, "output"),
        ({"output": None}, "output"),
        ({"state": "c" * 64}, "state"),
        ({"previous": "c" * 64}, "previous"),
        ({"program": "client_slice"}, "program"),
    ],
)
def test_a_receipt_that_says_something_else_publishes_nothing(
    scene: Scene, changes: dict[str, Any], field: str
) -> None:
    answer = answer_for(scene, SIGNER, **changes)
    with pytest.raises(Refusal) as caught:
        publishing.publish(scene.round, answer)
    assert (caught.value.code, caught.value.facts) == ("receipt.mismatch", {"field": field})
    scene.round.refresh_from_db()
    assert scene.round.state == "aggregating" and not Blob.objects.exists()
    assert not LogEntry.objects.filter(kind="receipt").exists()


def test_a_receipt_by_a_key_that_was_never_attested_publishes_nothing(scene: Scene) -> None:
    answer = answer_for(scene, SigningKey.generate())
    with pytest.raises(Refusal) as caught:
        publishing.publish(scene.round, answer)
    assert caught.value.facts == {"field": "signing key"}


def test_a_tampered_receipt_publishes_nothing(scene: Scene) -> None:
    answer = answer_for(scene, SIGNER)
    changed = msgspec.to_builtins(answer)
    changed["receipt"]["receipt"]["inputs"][0]["samples"] = 10**6
    answer = msgspec.convert(changed, RoundDone)
    with pytest.raises(Refusal) as caught:
        publishing.publish(scene.round, answer)
    assert caught.value.code == "sealing.bad_signature"


def joined(scene: Scene, *hospitals: Any) -> None:
    for number, hospital in enumerate(hospitals):
        job = scene.offer(hospital, JobKind.JOIN)
        Job.objects.filter(pk=job.pk).update(state=JobState.DONE)
        Admission.objects.create(enclave=scene.enclave, site=hospital.site, signing_key=f"{number:064x}")


def test_a_site_that_was_late_and_silent_since_is_not_waited_for_again(scene: Scene) -> None:
    joined(scene, scene.anna, scene.berta)
    closed = timezone.now()
    Round.objects.filter(pk=scene.round.pk).update(state="published", closed_at=closed)
    Contribution.objects.filter(round=scene.round, site=scene.berta.site).update(
        state="dropped", error_code="contribution.late"
    )
    rounds.open_round(scene.run, 2, RoundKind.TRAIN, manifest_of(scene.run))
    assert [row.site for row in Contribution.objects.filter(round__number=2)] == [scene.anna.site]
    scene.berta.site.last_seen = closed + timedelta(seconds=1)
    scene.berta.site.save()
    Contribution.objects.create(
        round=Round.objects.get(run=scene.run, number=2),
        site=scene.berta.site,
        state="dropped",
        error_code="contribution.late",
    )
    Round.objects.filter(run=scene.run, number=2).update(state="published", closed_at=closed)
    rounds.open_round(scene.run, 3, RoundKind.EVALUATE, manifest_of(scene.run))
    assert Contribution.objects.filter(round__number=3).count() == 2


def test_opening_a_round_twice_opens_one(scene: Scene) -> None:
    joined(scene, scene.anna, scene.berta)
    for _ in range(2):
        rounds.open_round(scene.run, 2, RoundKind.TRAIN, manifest_of(scene.run))
    assert Round.objects.filter(run=scene.run, number=2).count() == 1
    assert Job.objects.filter(round__number=2, kind="train").count() == 2


def test_a_suspended_site_is_neither_asked_nor_counted(scene: Scene) -> None:
    joined(scene, scene.anna, scene.berta)
    scene.berta.site.state = "suspended"
    scene.berta.site.save()
    assert attendance.joined(scene.run) == [scene.anna.site.pk]
    rounds.open_round(scene.run, 2, RoundKind.TRAIN, manifest_of(scene.run))
    assert [job.site for job in Job.objects.filter(round__number=2)] == [scene.anna.site]


def test_joining_waits_for_all_until_the_deadline_and_goes_on_with_a_quorum(scene: Scene) -> None:
    Run.objects.filter(pk=scene.run.pk).update(state="joining")
    scene.run.state = "joining"
    Enclave.objects.update(ready_at=timezone.now())
    scene.offer(scene.berta, JobKind.JOIN)
    joined(scene, scene.anna)
    joining.advance(scene.run)
    assert scene.run.state == "joining"
    Enclave.objects.update(ready_at=timezone.now() - timedelta(seconds=61))
    joining.advance(scene.run)
    assert scene.run.state == "running"
