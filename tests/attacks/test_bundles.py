# ruff: noqa: F811, F401 (pytest's fixtures are imported, and named again as arguments)
"""Attacks on an auditor: a coordinator owns the log's key and writes into its log what it likes.

Each was "verified", exit 0, while only what was there was judged, and each entry by what it named itself.
Evidence is real development evidence; the coordinator cannot forge the sites' or an attested enclave's key.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from contracts.canonical import canonical
from contracts.policy import SgxReference
from contracts.signing import SigningKey
from tests.attacks.bundles import begun, checked, failed, goes_on, missing, retold
from tests.log.conftest import (
    AT,
    MRENCLAVE,
    Enclave,
    History,
    aggregator,
    history,
    make_manifest,
    rewrite,
    tell,
)
from transparency_log.bundle import verify_bundle
from transparency_log.entry import (
    APPRAISAL,
    KEY_RELEASE,
    AdmissionBody,
    ParametersBody,
    parse_entry,
)


class TestPolicies:
    def test_evidence_that_only_a_policy_of_the_coordinators_own_accepts_fails(
        self,
        aggregator: Enclave,
        tmp_path: Path,
    ) -> None:
        """The hospitals approved one measurement; another enclave was appraised, under a policy beside it."""
        reported = begun(make_manifest(aggregator.policy(b"approved by the hospitals, 32 b.")))
        assert reported.manifest is not None
        reported.append(
            APPRAISAL,
            aggregator.appraised(reported, reported.manifest, reported.enclave, policy=aggregator.policy()),
        )
        goes_on(reported, reported.enclave)
        report = checked(reported, tmp_path)
        assert failed(report) == {"log.foreign_policy", "bundle.not_attested"}
        assert report.verdicts()["evidence"] == "failed"

    def test_the_manifests_policy_named_over_a_verdict_by_another_fails(
        self,
        aggregator: Enclave,
        tmp_path: Path,
    ) -> None:
        reported = begun(make_manifest(aggregator.policy(b"approved by the hospitals, 32 b.")))
        assert reported.manifest is not None
        body = aggregator.appraised(reported, reported.manifest, reported.enclave, policy=aggregator.policy())
        named = reported.keep(canonical(reported.manifest.policy))
        reported.append(APPRAISAL, msgspec.structs.replace(body, policy=named))
        goes_on(reported, reported.enclave)
        assert failed(checked(reported, tmp_path)) == {"attest.measurement", "bundle.not_attested"}

    def test_evidence_judged_under_collateral_below_the_manifests_floor_fails(
        self,
        aggregator: Enclave,
        tmp_path: Path,
    ) -> None:
        policy = aggregator.policy()
        reported = begun(make_manifest(msgspec.structs.replace(policy, minimum_tcb_evaluation=10_000)))
        assert reported.manifest is not None
        body = aggregator.appraised(reported, reported.manifest, reported.enclave, policy=policy)
        named = reported.keep(canonical(reported.manifest.policy))
        reported.append(APPRAISAL, msgspec.structs.replace(body, policy=named))
        assert failed(checked(reported, tmp_path)) == {"attest.tcb_evaluation_floor"}

    def test_evidence_judged_at_a_time_before_the_manifests_fails(
        self,
        aggregator: Enclave,
        tmp_path: Path,
    ) -> None:
        """Old collateral looks fresh to a clock that was set back."""
        reported = begun(msgspec.structs.replace(make_manifest(aggregator.policy()), minimum_time=AT + 60))
        assert reported.manifest is not None
        reported.append(APPRAISAL, aggregator.appraised(reported, reported.manifest, reported.enclave))
        assert failed(checked(reported, tmp_path)) == {"bundle.wrong_time"}

    def test_a_client_slice_accepted_as_the_server_fails(
        self,
        aggregator: Enclave,
        tmp_path: Path,
    ) -> None:
        """Its host is a hospital's: it must never stand for the aggregator."""
        policy = aggregator.policy()
        slices = SgxReference("client_slice", mrenclave=MRENCLAVE.hex())
        reported = begun(
            make_manifest(msgspec.structs.replace(policy, references=(*policy.references, slices)))
        )
        assert reported.manifest is not None
        reported.append(
            APPRAISAL,
            aggregator.appraised(
                reported, reported.manifest, reported.enclave, subject="site-a", program="client_slice"
            ),
        )
        goes_on(reported, reported.enclave)
        assert failed(checked(reported, tmp_path)) == {"bundle.not_attested"}


class TestApprovals:
    def test_a_whole_log_without_approvals_fails(self, history: History, tmp_path: Path) -> None:
        report = checked(retold(history, [3, 5, 6, 7, 8]), tmp_path)
        assert failed(report) == {"bundle.unapproved"}
        assert "without an approval before it by site-a, site-b, site-c" in report.words("failed")[0]

    def test_one_member_that_never_approved_fails(self, history: History, tmp_path: Path) -> None:
        report = checked(retold(history, [0, 2, 3, 5, 6]), tmp_path)
        assert failed(report) == {"bundle.unapproved"} and "site-b" in report.words("failed")[0]

    def test_an_approval_that_came_after_the_first_round_fails(
        self,
        history: History,
        tmp_path: Path,
    ) -> None:
        report = checked(retold(history, [0, 1, 3, 5, 6, 2]), tmp_path)
        assert failed(report) == {"bundle.unapproved"}

    def test_a_part_that_shows_an_approval_to_be_late_fails_and_one_without_any_is_incomplete(
        self,
        history: History,
        tmp_path: Path,
    ) -> None:
        late = retold(history, [9, 0, 1, 3, 5, 6, 2])
        path = late.write(tmp_path / "part.zip", indices=[1, 2, 3, 4, 5, 6])
        report = verify_bundle(path, log_key=late.note_key)
        assert failed(report) == {"bundle.unapproved"} and "approved after" in report.words("failed")[0]
        path = history.write(path, indices=[3, 5, 6, 7, 8])
        report = verify_bundle(path, log_key=history.note_key)
        assert missing(report) == {"bundle.part", "bundle.no_approval"}
        assert len([one for one in report.of("missing") if one.code == "bundle.no_approval"]) == 3


class TestWhatIsLeftOut:
    def test_a_bundle_without_its_attachments_is_incomplete(
        self,
        history: History,
        tmp_path: Path,
    ) -> None:
        history.things.clear()
        report = checked(history, tmp_path)
        assert missing(report) == {"bundle.no_attachment", "bundle.no_manifest", "bundle.no_evidence"}
        assert {claim for claim, verdict in report.verdicts().items() if verdict == "verified"} == {"the log"}

    @pytest.mark.parametrize("what", ["manifest", "policy", "quote", "collateral"])
    def test_a_bundle_without_one_kind_of_attachment_is_incomplete(
        self,
        history: History,
        tmp_path: Path,
        what: str,
    ) -> None:
        for index in (3, 4):
            history.things.pop(parse_entry(history.leaves[index]).body[what], None)
        assert "bundle.no_attachment" in missing(checked(history, tmp_path))

    @pytest.mark.parametrize("hidden", range(9))
    def test_a_bundle_in_which_one_entry_was_left_out_is_never_verified(
        self,
        history: History,
        tmp_path: Path,
        hidden: int,
    ) -> None:
        indices = [index for index in range(10) if index != hidden]
        report = verify_bundle(history.write(tmp_path / "b.zip", indices=indices), log_key=history.note_key)
        assert "bundle.part" in missing(report)

    @pytest.mark.parametrize("hidden", [3, 5, 6, 7])
    def test_a_log_that_never_had_an_entry_that_a_receipt_rests_on_fails(
        self,
        history: History,
        tmp_path: Path,
        hidden: int,
    ) -> None:
        report = checked(retold(history, [index for index in range(10) if index != hidden]), tmp_path)
        assert failed(report) & {"bundle.not_attested", "receipt.chain_broken"}

    def test_a_log_cut_before_its_last_round_is_incomplete_for_whoever_has_its_checkpoint(
        self,
        history: History,
        tmp_path: Path,
    ) -> None:
        path = history.write(tmp_path / "b.zip", indices=list(range(7)))
        assert missing(verify_bundle(path, log_key=history.note_key)) == {"bundle.part"}

    def test_an_empty_log_verifies_nothing(self, tmp_path: Path) -> None:
        assert missing(checked(History(), tmp_path)) == {"bundle.empty"}

    def test_an_entry_of_a_kind_that_nobody_knows_is_not_passed_over(
        self,
        history: History,
        tmp_path: Path,
    ) -> None:
        history.append("approval.withdrawn", {"site": "site-a"})
        assert missing(checked(history, tmp_path)) == {"bundle.unknown_kind"}

    def test_an_attachment_that_no_entry_names_fails(self, history: History, tmp_path: Path) -> None:
        path = history.write(tmp_path / "b.zip")
        name = History().keep(b"something beside")
        rewrite(path, lambda members: members.update({f"attachments/{name}": b"something beside"}))
        assert failed(verify_bundle(path, log_key=history.note_key)) == {"bundle.attachment_unnamed"}


class TestKeys:
    @pytest.fixture
    def reported(self, aggregator: Enclave) -> History:
        """A run whose manifest accepts client slices as well, approved by all."""
        policy = aggregator.policy()
        slices = SgxReference("client_slice", mrenclave=MRENCLAVE.hex())
        return begun(make_manifest(msgspec.structs.replace(policy, references=(*policy.references, slices))))

    def admission(self, reported: History, key: SigningKey, site: str = "site-a") -> AdmissionBody:
        assert reported.manifest is not None
        return AdmissionBody(
            reported.manifest.hash, "run-1", site, "e-1", key.public, MRENCLAVE.hex(), "client_slice"
        )

    def parameters(self, reported: History, *keys: SigningKey) -> ParametersBody:
        assert reported.manifest is not None
        recipients = tuple(key.public for key in keys)
        return ParametersBody(
            reported.manifest.hash, "run-1", 1, "e" * 64, recipients, ("site-a",), "aggregator"
        )

    def test_parameters_for_an_admitted_client_slice_are_verified(
        self,
        reported: History,
        aggregator: Enclave,
        tmp_path: Path,
    ) -> None:
        assert reported.manifest is not None
        key = SigningKey.generate()
        reported.append(
            APPRAISAL,
            aggregator.appraised(reported, reported.manifest, key, subject="site-a", program="client_slice"),
        )
        reported.append(KEY_RELEASE, self.admission(reported, key))
        reported.append(KEY_RELEASE, self.parameters(reported, key))
        report = checked(reported, tmp_path)
        assert (report.verdict, report.verdicts()["keys"]) == ("verified", "verified")

    def test_an_admission_without_evidence_and_parameters_for_a_stranger_fail(
        self, reported: History, tmp_path: Path
    ) -> None:
        reported.append(KEY_RELEASE, self.admission(reported, SigningKey.generate()))
        reported.append(KEY_RELEASE, self.parameters(reported, SigningKey.generate()))
        report = checked(reported, tmp_path)
        assert failed(report) == {"bundle.not_attested"} and report.failures == 2

    def test_one_hospitals_client_slice_admitted_as_anothers_fails(
        self,
        reported: History,
        aggregator: Enclave,
        tmp_path: Path,
    ) -> None:
        assert reported.manifest is not None
        key = SigningKey.generate()
        reported.append(
            APPRAISAL,
            aggregator.appraised(reported, reported.manifest, key, subject="site-a", program="client_slice"),
        )
        reported.append(KEY_RELEASE, self.admission(reported, key, site="site-b"))
        assert failed(checked(reported, tmp_path)) == {"bundle.not_attested"}
