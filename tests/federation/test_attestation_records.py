"""Reference values, nonces, and verdicts on real development evidence, with their place in the log."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone
from msgspec.structs import replace

from attestation.appraisal import appraise
from attestation.development import collateral, create_platform, install_platform, issue_platform
from attestation.measurement import measure
from attestation.sources import open_source
from contracts.canonical import canonical
from contracts.evidence import Claims, Evidence, Expected, report_data
from contracts.manifest import Manifest, parse
from contracts.policy import Policy, SgxReference, TdxReference
from contracts.refusal import Refusal
from enclave_jobs.runs.models import Run
from enclave_jobs.runs.services import launch
from federation import frozen
from federation.attestation import appraisals, log, nonces, references
from federation.attestation.models import AppraisalRecord, LogEntry, Nonce, Reference, Root, StoredEvidence
from federation.people.models import User
from federation.studies import services
from federation.studies.models import Study
from tests.federation.cast import Hospital
from tests.support.proofs import freeze as freeze_tried
from transparency_log.entry import APPRAISAL, parse_entry, typed_body

VALUE = SgxReference(program="aggregator", mrenclave="a" * 64)


class TestReferences:
    def test_a_reference_has_its_history_and_its_entries_in_the_log(self, olga: User) -> None:
        row = references.add(olga, VALUE, root=Root.DEVELOPMENT, reason="first build", source_commit="c0ffee")
        references.suspend(olga, row, "a bug was found")
        row.refresh_from_db()
        assert (row.added_by, row.reason, row.source_commit) == (olga.email, "first build", "c0ffee")
        assert (row.suspended_by, row.suspended_reason) == (olga.email, "a bug was found")
        kinds = list(LogEntry.objects.values_list("kind", flat=True))
        assert kinds == ["reference.added", "reference.suspended"]
        body = json.loads(LogEntry.objects.get(index=0).data)["body"]
        assert (body["values"]["mrenclave"], body["by"]) == ("a" * 64, f"user:{olga.pk}")

    @pytest.mark.parametrize("who", ["lena", "alice", "audrey"])
    def test_only_operators_decide_what_is_accepted(self, who: str, request: Any) -> None:
        person = request.getfixturevalue(who)
        with pytest.raises(Refusal, match=r"auth\.forbidden"):
            references.add(person, VALUE, root=Root.DEVELOPMENT, reason="mine")
        row = references.add(None, VALUE, root=Root.DEVELOPMENT, reason="set up")
        with pytest.raises(Refusal, match=r"auth\.forbidden"):
            references.suspend(person, row, "mine")

    def test_what_is_wrong_or_there_already_is_refused_and_not_logged(self, olga: User) -> None:
        row = references.add(olga, VALUE, root=Root.DEVELOPMENT, reason="first")
        for value, reason, code in (
            (VALUE, "again", "reference.duplicate"),
            (SgxReference(program="aggregator", mrenclave="b" * 64), "  ", "reference.invalid"),
            (SgxReference(program="aggregator", mrsigner="b" * 64), "no SVN", "reference.invalid"),
            (SgxReference(program="aggregator"), "nothing", "reference.invalid"),
        ):
            with pytest.raises(Refusal) as refusal:
                references.add(olga, value, root=Root.DEVELOPMENT, reason=reason)
            assert refusal.value.code == code
        references.suspend(olga, row, "once")
        with pytest.raises(Refusal, match=r"reference\.suspended"):
            references.suspend(olga, row, "twice")
        assert (Reference.objects.count(), LogEntry.objects.count()) == (1, 2)

    def test_every_kind_of_identity_is_kept_as_it_was_given(self, db: None) -> None:
        values = (
            VALUE,
            SgxReference(program="client_slice", mrsigner="5" * 64, product_id=2, minimum_svn=3),
            TdxReference(program="split_server", mrtd="7" * 96, rtmrs=("0" * 96,) * 4),
        )
        rows = [references.add(None, value, root=Root.INTEL, reason="release 1") for value in values]
        assert [references.value_of(row) for row in rows] == list(values)
        assert [row.measurement[0] for row in rows] == ["a", "5", "7"]

    def test_the_command_accepts_this_checkouts_programs_once(self, db: None, capsys: Any) -> None:
        references.add(None, VALUE, root=Root.DEVELOPMENT, reason="an older build")
        call_command("register_measurements")
        call_command("register_measurements", "--replace")
        live = references.in_force(Root.DEVELOPMENT, ("aggregator", "client_slice", "split_server"))
        assert {row.program: row.measurement for row in live} == {
            program: measure(program)
            for program in ("aggregator", "client_slice", "split_server")  # type: ignore[arg-type]
        }
        assert "in force already" in capsys.readouterr().out


def test_a_value_of_the_same_signer_in_force_does_not_stand_for_the_one_that_was_approved(olga: User) -> None:
    approved = SgxReference(program="aggregator", mrsigner="5" * 64, product_id=2, minimum_svn=3)
    row = references.add(None, approved, root=Root.DEVELOPMENT, reason="release 1")
    policy = Policy("development", "0" * 64, (approved,))
    assert references.still_in_force(policy)
    references.suspend(olga, row, "a bug was found; SVN 4 has the fix")
    fixed = SgxReference(program="aggregator", mrsigner="5" * 64, product_id=2, minimum_svn=4)
    references.add(None, fixed, root=Root.DEVELOPMENT, reason="release 2")
    assert references.lapsed(policy) == [approved]


class TestNonces:
    pytestmark = pytest.mark.django_db

    def test_a_nonce_is_good_once_and_for_one_purpose(self) -> None:
        value = nonces.issue("run:1")
        assert len(bytes.fromhex(value)) == 32
        with pytest.raises(Refusal, match=r"nonce\.unknown"):
            nonces.consume(value, "run:2")
        nonces.consume(value, "run:1")
        with pytest.raises(Refusal, match=r"nonce\.used"):
            nonces.consume(value, "run:1")

    def test_a_nonce_expires(self) -> None:
        value = nonces.issue("run:1")
        Nonce.objects.update(expires=timezone.now())
        with pytest.raises(Refusal, match=r"nonce\.expired"):
            nonces.consume(value, "run:1")
        assert nonces.forget_expired() == 0
        Nonce.objects.update(expires=timezone.now() - timezone.timedelta(days=2))
        assert nonces.forget_expired() == 1

    def test_one_that_was_never_issued_is_unknown(self) -> None:
        with pytest.raises(Refusal, match=r"nonce\.unknown"):
            nonces.consume("0" * 64, "run:1")


class TestAppraisals:
    @pytest.fixture
    def run(self, anna: Hospital, barbara: Hospital, draft: Study, lena: User) -> Run:
        Reference.objects.all().delete()
        call_command("register_measurements")
        freeze_tried(lena, draft)
        for hospital in (anna, barbara):
            services.sign_approval(
                hospital.as_agent(), draft.manifest_hash, hospital.sign(draft.manifest_hash)
            )
        draft.refresh_from_db()
        return launch(lena, draft)

    @pytest.fixture
    def evidence(self, run: Run, tmp_path: Path, settings: Any) -> Evidence:
        """Real evidence of a development aggregator that is bound to this run."""
        root, platform = settings.DEVELOPMENT_ROOT_DIR, tmp_path / "platform"
        install_platform(platform, issue_platform(root, create_platform(platform)))
        claims = Claims(
            nonce=nonces.issue("test"),
            hpke_key="ab" * 1216,
            signing_key="c" * 64,
            manifest=run.manifest_hash,
            program="aggregator",
        )
        source = open_source("development", platform=platform, program="aggregator")
        return Evidence(source.quote(report_data(claims)), collateral(root, int(time.time())), claims)

    def judge(self, evidence: Evidence, run: Run, nonce: str | None = None) -> Any:
        expected = Expected(nonce or evidence.claims.nonce, run.manifest_hash, "aggregator")
        policy = parse(run.manifest.encode()).policy
        return appraise(evidence, policy, at=int(time.time()), expected=expected)

    def test_a_verdict_can_be_reached_again_from_what_is_kept(self, evidence: Evidence, run: Run) -> None:
        appraisal = self.judge(evidence, run)
        assert appraisal.verdict == "accepted", appraisal
        row = appraisals.store(evidence, appraisal, run=run)
        assert (row.verdict, row.code, row.tee, row.development) == ("accepted", "", "sgx", True)
        assert row.measurement == measure("aggregator")
        entry = parse_entry(row.log_entry.data.encode())
        body: Any = typed_body(entry)
        kept = {kind: bytes(StoredEvidence.objects.get(pk=sha).data) for kind, sha in (
            ("quote", body.quote), ("collateral", body.collateral), ("policy", body.policy))}  # fmt: skip
        assert kept["quote"] == evidence.quote
        assert json.loads(kept["collateral"]) == evidence.collateral
        assert all(hashlib.sha256(kept[name]).hexdigest() == getattr(body, name) for name in kept)
        assert (body.relying_party, body.subject, body.claims) == (
            "coordinator",
            "aggregator",
            evidence.claims,
        )
        assert body.appraisal["verdict"] == "accepted"

    def test_a_refusal_is_kept_and_logged_as_well(self, evidence: Evidence, run: Run, anna: Hospital) -> None:
        appraisal = self.judge(evidence, run, nonce="f" * 64)
        row = appraisals.store(evidence, appraisal, run=run, site=anna.site)
        assert row.verdict == "refused" and row.code
        body: Any = typed_body(parse_entry(row.log_entry.data.encode()))
        assert (body.subject, body.appraisal["code"]) == (anna.site.pk, row.code)

    def test_an_appraisal_by_another_policy_than_the_manifests_is_not_logged(
        self, evidence: Evidence, run: Run
    ) -> None:
        row = appraisals.store(evidence, self.judge(evidence, run), run=run)
        body: Any = typed_body(parse_entry(row.log_entry.data.encode()))
        weaker = replace(parse(run.manifest.encode()).policy, accepted_statuses=("UpToDate", "OutOfDate"))
        policy, before = log.Attachment("policy", canonical(weaker)), log.size()
        with pytest.raises(Refusal, match=r"log\.foreign_policy"):
            log.append(APPRAISAL, replace(body, policy=policy.sha256), [policy])
        assert log.size() == before and not StoredEvidence.objects.filter(pk=policy.sha256).exists()

    def test_to_store_and_log_one_parses_its_manifest_no_more_than_once(
        self, evidence: Evidence, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        appraisal, parsed = self.judge(evidence, run), []

        def counted(text: bytes) -> Manifest:
            parsed.append(text)
            return parse(text)

        frozen.read_manifest.cache_clear()
        monkeypatch.setattr(frozen, "parse", counted)
        appraisals.store(evidence, appraisal, run=run)
        appraisals.store(evidence, self.judge(evidence, run, nonce="f" * 64), run=run)
        assert len(parsed) == 1
        assert not hasattr(log, "parse") and not hasattr(appraisals, "parse")

    def test_without_its_log_entry_there_is_no_record(
        self, evidence: Evidence, run: Run, monkeypatch: Any
    ) -> None:
        before = log.size()

        def broken(*args: Any, **kwargs: Any) -> None:
            raise Refusal("log.invalid_entry", fault="the disk is full")

        monkeypatch.setattr(log, "append", broken)
        with pytest.raises(Refusal, match=r"log\.invalid_entry"):
            appraisals.store(evidence, self.judge(evidence, run), run=run)
        assert not AppraisalRecord.objects.exists() and log.size() == before


def test_a_hardware_site_gets_no_development_collateral(anna: Hospital) -> None:
    anna.site.runtime = "sgx"
    anna.site.save()
    assert anna.call("get", "collateral").json()["code"] == "collateral.none"


def test_collateral_is_fresh_and_of_this_installations_root(anna: Hospital) -> None:
    reported = anna.call("get", "collateral").json()
    assert {json.loads(reported[tee]["tcb_info"])["id"] for tee in ("sgx", "tdx")} == {"SGX", "TDX"}
