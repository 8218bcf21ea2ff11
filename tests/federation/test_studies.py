"""From a frozen study to its end: who approves and launches it, and when it no longer holds."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from contracts.approvals import Approval as Given
from contracts.canonical import canonical
from contracts.manifest import parse
from contracts.policy import SgxReference
from contracts.signing import SigningKey
from enclave_jobs import dispatch
from enclave_jobs.runs import services as runs
from enclave_jobs.runs.models import Run, RunState
from enclave_jobs.runs.queries import approvals_given, counting
from enclave_jobs.runs.services import launch
from federation.attestation import references
from federation.attestation.models import LogEntry, Reference, Root, StoredEvidence
from federation.datasets.models import Dataset
from federation.people.models import User
from federation.sites.models import Site, SiteState
from federation.studies import queries, services
from federation.studies.models import Study, StudyState
from federation.studies.plan import Plan
from tests.federation.acts import refused
from tests.federation.cast import MODEL, Hospital, make_dataset
from tests.support.proofs import freeze as freeze_tried


def listen(monkeypatch: Any, task: str) -> list[str]:
    """The ids with which this task is sent from now on, to nobody but this test."""
    heard: list[str] = []
    monkeypatch.setattr(dispatch, "send", lambda name, run_id: name == task and heard.append(run_id))
    return heard


class TestApproval:
    def test_the_signatures_make_the_study_ready(
        self, frozen: Study, anna: Hospital, barbara: Hospital
    ) -> None:
        (item,) = anna.call("get", "approvals").json()
        assert (item["manifest_hash"], item["state"]) == (frozen.manifest_hash, "waiting")
        assert hashlib.sha256(item["manifest"].encode()).hexdigest() == frozen.manifest_hash
        for hospital in (anna, barbara):
            answer = hospital.call("post", "approvals", hospital.signed(frozen.manifest_hash))
            assert answer.json()["state"] == "signed"
        frozen.refresh_from_db()
        assert frozen.state == StudyState.READY
        entries = [json.loads(entry.data) for entry in LogEntry.objects.filter(kind="approval")]
        assert {entry["body"]["site"] for entry in entries} == {anna.site.pk, barbara.site.pk}
        kept = StoredEvidence.objects.get(kind="manifest")
        assert bytes(kept.data) == canonical(parse((frozen.manifest or "").encode()))

    def test_the_browser_alone_makes_nothing_ready(self, frozen: Study, alice: User, bob: User) -> None:
        for admin in (alice, bob):
            services.approve_in_browser(admin, frozen, frozen.manifest_hash)
        frozen.refresh_from_db()
        assert frozen.state == StudyState.APPROVING
        assert len(queries.waiting_for(frozen)) == 2
        assert frozen.approvals.filter(browser_by=alice, signature=None).exists()

    def test_the_same_signature_twice_is_logged_once(self, frozen: Study, anna: Hospital) -> None:
        for _ in range(2):
            services.sign_approval(anna.as_agent(), frozen.manifest_hash, anna.sign(frozen.manifest_hash))
        assert LogEntry.objects.filter(kind="approval").count() == 1

    def test_an_approval_that_confirms_too_few_members_is_not_taken(
        self, frozen: Study, anna: Hospital
    ) -> None:
        """No round would ever have its quorum."""
        given = anna.sign(frozen.manifest_hash, [anna.site.pk])
        refused("members.too_few", services.sign_approval, anna.as_agent(), frozen.manifest_hash, given)

    def test_until_the_launch_a_site_may_confirm_more_members(
        self, ready: Study, lena: User, anna: Hospital, barbara: Hospital
    ) -> None:
        digest, both = ready.manifest_hash, sorted((anna.site.pk, barbara.site.pk))
        services.sign_approval(anna.as_agent(), digest, anna.sign(digest, reversed(both)))
        given = anna.sign(digest, [barbara.site.pk])
        services.sign_approval(anna.as_agent(), digest, given)
        ready.refresh_from_db()
        assert ready.state == StudyState.READY
        assert queries.given_to(ready, digest)[anna.site.pk] == given
        assert LogEntry.objects.filter(kind="approval").count() == 3
        run = launch(lena, ready)
        assert counting(run, both) == 2 and counting(run, [anna.site.pk]) == 1
        refused("approval.stale_manifest", services.sign_approval, anna.as_agent(), digest, given)

    def test_a_state_whose_shares_too_few_may_hold_is_not_begun(
        self, draft: Study, lena: User, anna: Hospital, barbara: Hospital, clara: Hospital
    ) -> None:
        """Each knows as many as any minimum asks for, and nobody is known to all."""
        server = SgxReference(program="split_server", mrenclave=f"{9:064x}")
        references.add(None, server, root=Root.DEVELOPMENT, reason="for this test")
        plan = Plan(model=MODEL, method="method-2", cut=3, quorum=2, key_shares=2)
        datasets = [*draft.datasets.all(), make_dataset(clara.site)]
        services.update_study(
            lena, draft, name=draft.name, purpose=draft.purpose, plan=plan, datasets=datasets
        )
        freeze_tried(lena, draft)
        for hospital, known in ((anna, barbara), (barbara, clara), (clara, anna)):
            given = hospital.sign(draft.manifest_hash, [known.site.pk])
            services.sign_approval(hospital.as_agent(), draft.manifest_hash, given)
        draft.refresh_from_db()
        refused("study.too_few_holders", launch, lena, draft)

    def test_a_foreign_or_false_signature_is_refused(
        self, frozen: Study, anna: Hospital, barbara: Hospital, clara: Hospital
    ) -> None:
        shown = frozen.manifest_hash
        agent = anna.as_agent()
        refused("sealing.bad_signature", services.sign_approval, agent, shown, barbara.sign(shown))
        refused("sealing.bad_signature", services.sign_approval, agent, shown, anna.sign("0" * 64))
        other_domain = Given((), anna.key.sign("fedslice/roster/v1", {"manifest": shown}))
        refused("sealing.bad_signature", services.sign_approval, agent, shown, other_domain)
        refused("approval.stale_manifest", services.sign_approval, clara.as_agent(), shown, clara.sign(shown))

    def test_a_changed_manifest_needs_new_approvals(self, ready: Study, lena: User, anna: Hospital) -> None:
        old = ready.manifest_hash
        services.reopen(lena, ready)
        freeze_tried(lena, ready)
        assert ready.manifest_hash != old
        assert {row.manifest_hash for row in queries.approvals_of(ready)} == {ready.manifest_hash}
        assert len(queries.waiting_for(ready)) == 2
        refused("approval.stale_manifest", services.sign_approval, anna.as_agent(), old, anna.sign(old))
        refused("study.wrong_state", launch, lena, ready)
        assert ready.approvals.filter(manifest_hash=old, signature__isnull=False).count() == 2

    def test_the_browser_approves_what_it_showed_and_nothing_else(
        self, frozen: Study, alice: User, carol: User
    ) -> None:
        refused("approval.stale_manifest", services.approve_in_browser, alice, frozen, "0" * 64)
        refused("auth.forbidden", services.approve_in_browser, carol, frozen, frozen.manifest_hash)


class TestLaunch:
    def test_the_run_has_the_manifests_id_and_is_announced_after_the_commit(
        self, ready: Study, lena: User, django_capture_on_commit_callbacks: Any, monkeypatch: Any
    ) -> None:
        heard = listen(monkeypatch, dispatch.ADVANCE)
        with django_capture_on_commit_callbacks(execute=True):
            run = launch(lena, ready)
            assert heard == []
        manifest = parse(run.manifest.encode())
        assert heard == [run.pk] == [manifest.run]
        assert (run.state, run.manifest_hash) == (RunState.STARTING, manifest.hash)
        assert set(approvals_given(run)) == {site.id for site in manifest.sites}
        kinds = [event.kind for event in ready.events.order_by("pk")]
        assert kinds == [
            "study.approving", "approval.signed", "approval.signed", "study.ready", "study.running",
            "run.starting",
        ]  # fmt: skip
        refused("study.wrong_state", launch, lena, ready)

    def test_nothing_launches_without_every_signature(
        self, frozen: Study, lena: User, anna: Hospital
    ) -> None:
        services.sign_approval(anna.as_agent(), frozen.manifest_hash, anna.sign(frozen.manifest_hash))
        refused("study.wrong_state", launch, lena, frozen)
        Study.objects.filter(pk=frozen.pk).update(state=StudyState.READY)  # as a forger would
        refused("study.not_approved", launch, lena, frozen)
        frozen.approvals.update(signature="0" * 128)
        refused("sealing.bad_signature", launch, lena, frozen)

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda study: Site.objects.filter(name="St. Anna").update(state=SiteState.SUSPENDED),
            lambda study: Site.objects.filter(name="St. Anna").update(
                public_key=SigningKey.generate().public
            ),
            lambda study: Site.objects.filter(name="St. Anna").update(
                approval_key=SigningKey.generate().public
            ),
            lambda study: Dataset.objects.update(withdrawn_at="2026-01-01T00:00Z"),
        ],
    )
    def test_what_was_approved_must_still_hold(self, ready: Study, lena: User, spoil: Any) -> None:
        spoil(ready)
        refused("study.stale_manifest", launch, lena, ready)

    def test_a_suspended_measurement_stops_the_launch(self, ready: Study, lena: User, olga: User) -> None:
        references.suspend(olga, Reference.objects.get(program="aggregator"), "a bug was found")
        refused("study.stale_manifest", launch, lena, ready)

    def test_a_manifest_changed_behind_our_back_is_noticed(self, ready: Study, lena: User) -> None:
        changed = (ready.manifest or "").replace('"rounds":4', '"rounds":9')
        Study.objects.filter(pk=ready.pk).update(manifest=changed)
        refused("manifest.hash_mismatch", launch, lena, ready)

    @pytest.mark.parametrize("who", ["olga", "ludo", "alice", "audrey"])
    def test_only_its_lead_steers_a_study(self, ready: Study, who: str, request: Any) -> None:
        person = request.getfixturevalue(who)
        refused("auth.forbidden", launch, person, ready)
        refused("auth.forbidden", services.reopen, person, ready)
        refused("auth.forbidden", services.freeze, person, ready)


class TestRuns:
    @pytest.fixture
    def run(self, ready: Study, lena: User) -> Run:
        return launch(lena, ready)

    def test_a_failed_run_gives_the_study_back_as_a_draft(self, run: Run) -> None:
        assert runs.fail(run, "run.no_quorum", {"missing": 2})
        run.refresh_from_db()
        assert (run.state, run.error_code, run.facts) == (RunState.FAILED, "run.no_quorum", {"missing": 2})
        assert run.finished_at is not None
        study = Study.objects.get()
        assert (study.state, study.manifest_hash, study.manifest) == (StudyState.DRAFT, "", None)
        assert not runs.fail(run, "run.no_quorum")

    def test_a_finished_run_finishes_the_study(self, run: Run) -> None:
        assert not runs.finish(run, {"accuracy": 0.7})
        Run.objects.update(state=RunState.FINISHING)
        assert runs.finish(run, {"accuracy": 0.7})
        assert (Study.objects.get().state, Run.objects.get().summary) == ("finished", {"accuracy": 0.7})

    def test_a_run_is_paused_resumed_and_cancelled_by_its_lead(
        self, run: Run, lena: User, ludo: User
    ) -> None:
        refused("run.wrong_state", runs.pause, lena, run)
        Run.objects.update(state=RunState.JOINING)
        refused("auth.forbidden", runs.pause, ludo, run)
        runs.pause(lena, run)
        runs.resume(lena, run)
        assert Run.objects.get().state == RunState.JOINING
        refused("auth.forbidden", runs.cancel, ludo, run)
        runs.cancel(lena, run, "wrong data")
        assert (Run.objects.get().state, Study.objects.get().state) == ("cancelled", "cancelled")
        refused("run.wrong_state", runs.cancel, lena, run)

    def test_the_end_is_announced(
        self, run: Run, lena: User, django_capture_on_commit_callbacks: Any, monkeypatch: Any
    ) -> None:
        heard = listen(monkeypatch, dispatch.END)
        with django_capture_on_commit_callbacks(execute=True):
            runs.cancel(lena, run)
        assert heard == [run.pk]

    def test_a_broker_that_cannot_be_reached_does_not_undo_the_launch(
        self, ready: Study, lena: User, django_capture_on_commit_callbacks: Any, caplog: Any
    ) -> None:
        with django_capture_on_commit_callbacks(execute=True):
            run = launch(lena, ready)
        assert Run.objects.get(pk=run.pk).state == RunState.STARTING
        assert "was not dispatched" in caplog.text  # there is no Redis in these tests
