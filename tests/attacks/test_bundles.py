# ruff: noqa: F811, F401 (pytest's fixtures are imported, and named again as arguments)
"""Attacks on an auditor: a coordinator owns the log's key and writes into its log what it likes.

Each was "verified", exit 0, while only what was there was judged, and each entry by what it named itself.
Evidence is real development evidence; the coordinator cannot forge the sites' or an attested enclave's key.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from contracts.canonical import canonical, digest
from contracts.log import growth, merkle
from contracts.manifest import Manifest, Privacy, Release
from contracts.policy import SgxReference
from contracts.receipts import Averaging, NoisySteps, Spent, receipt_hash
from contracts.releases import Released, sign_release
from contracts.roster import countersign
from contracts.signing import SigningKey
from privacy_accounting.epsilon import Gaussian, epsilon
from tests.log.conftest import (
    AT,
    MRENCLAVE,
    SITES,
    Enclave,
    History,
    aggregator,
    history,
    make_manifest,
    make_receipt,
    make_roster,
    rewrite,
    tell,
)
from tests.support.approvals import approve, ordered
from tests.support.keys import approval_key
from transparency_log.bundle import verify_bundle
from transparency_log.entry import (
    APPRAISAL,
    APPROVAL,
    KEY_RELEASE,
    RECEIPT,
    RELEASE,
    ROSTER,
    ROSTER_FIXED,
    AdmissionBody,
    ApprovalBody,
    ParametersBody,
    ReleaseBody,
    RosterBody,
    RosterFixedBody,
    parse_entry,
)
from transparency_log.report import BundleReport


def checked(told: History, tmp_path: Path) -> BundleReport:
    return verify_bundle(told.write(tmp_path / "b.zip"), log_key=told.note_key)


def failed(report: BundleReport) -> set[str | None]:
    assert report.verdict == "failed", report.words("established")
    return {finding.code for finding in report.of("failed")}


def missing(report: BundleReport) -> set[str | None]:
    assert report.verdict == "incomplete", (report.words("failed"), report.words("established"))
    return {finding.code for finding in report.of("missing")}


def retold(old: History, order: list[int]) -> History:
    """The same log with only these entries, in this order, signed anew by its own key."""
    new = History(key=old.key, things=dict(old.things), enclave=old.enclave, manifest=old.manifest)
    for number, index in enumerate(order):
        growth.append(new.store, number, merkle.leaf_hash(old.leaves[index]))
        new.leaves.append(old.leaves[index])
    return new


def begun(manifest: Manifest, **knows: tuple[str, ...]) -> History:
    """A log in which every member has approved this run. Each has confirmed all, or those it `knows`."""
    new = History(manifest=manifest)
    new.keep(canonical(manifest))
    for site, key in SITES.items():
        given = approve(manifest.hash, site, key, knows.get(site, tuple(SITES)))
        new.append(APPROVAL, ApprovalBody(manifest.hash, site, given.confirmed, given.signature))
    return new


def goes_on(told: History, signer: SigningKey, number: int = 1, **changes: object) -> None:
    """One more countersigned round, with its receipt."""
    assert told.manifest is not None
    body = make_roster(told.manifest, number, told.last)
    told.append(ROSTER, body)
    receipt = make_receipt(told.manifest, body.roster, told.last, signer, **changes)
    told.append(RECEIPT, receipt)
    told.last = receipt_hash(receipt.receipt)


class TestPolicies:
    def test_evidence_that_only_a_policy_of_the_coordinators_own_accepts_fails(
        self,
        aggregator: Enclave,
        tmp_path: Path,
    ) -> None:
        """The hospitals approved one measurement; another enclave was appraised, under a policy beside it."""
        told = begun(make_manifest(aggregator.policy(b"approved by the hospitals, 32 b.")))
        assert told.manifest is not None
        told.append(
            APPRAISAL, aggregator.appraised(told, told.manifest, told.enclave, policy=aggregator.policy())
        )
        goes_on(told, told.enclave)
        report = checked(told, tmp_path)
        assert failed(report) == {"log.foreign_policy", "bundle.not_attested"}
        assert report.verdicts()["evidence"] == "failed"

    def test_the_manifests_policy_named_over_a_verdict_by_another_fails(
        self,
        aggregator: Enclave,
        tmp_path: Path,
    ) -> None:
        told = begun(make_manifest(aggregator.policy(b"approved by the hospitals, 32 b.")))
        assert told.manifest is not None
        body = aggregator.appraised(told, told.manifest, told.enclave, policy=aggregator.policy())
        named = told.keep(canonical(told.manifest.policy))
        told.append(APPRAISAL, msgspec.structs.replace(body, policy=named))
        goes_on(told, told.enclave)
        assert failed(checked(told, tmp_path)) == {"attest.measurement", "bundle.not_attested"}

    def test_evidence_judged_under_collateral_below_the_manifests_floor_fails(
        self,
        aggregator: Enclave,
        tmp_path: Path,
    ) -> None:
        policy = aggregator.policy()
        told = begun(make_manifest(msgspec.structs.replace(policy, minimum_tcb_evaluation=10_000)))
        assert told.manifest is not None
        body = aggregator.appraised(told, told.manifest, told.enclave, policy=policy)
        named = told.keep(canonical(told.manifest.policy))
        told.append(APPRAISAL, msgspec.structs.replace(body, policy=named))
        assert failed(checked(told, tmp_path)) == {"attest.tcb_evaluation_floor"}

    def test_evidence_judged_at_a_time_before_the_manifests_fails(
        self,
        aggregator: Enclave,
        tmp_path: Path,
    ) -> None:
        """Old collateral looks fresh to a clock that was set back."""
        told = begun(msgspec.structs.replace(make_manifest(aggregator.policy()), minimum_time=AT + 60))
        assert told.manifest is not None
        told.append(APPRAISAL, aggregator.appraised(told, told.manifest, told.enclave))
        assert failed(checked(told, tmp_path)) == {"bundle.wrong_time"}

    def test_a_client_slice_accepted_as_the_server_fails(
        self,
        aggregator: Enclave,
        tmp_path: Path,
    ) -> None:
        """Its host is a hospital's: it must never stand for the aggregator."""
        policy = aggregator.policy()
        slices = SgxReference("client_slice", mrenclave=MRENCLAVE.hex())
        told = begun(make_manifest(msgspec.structs.replace(policy, references=(*policy.references, slices))))
        assert told.manifest is not None
        told.append(
            APPRAISAL,
            aggregator.appraised(told, told.manifest, told.enclave, subject="site-a", program="client_slice"),
        )
        goes_on(told, told.enclave)
        assert failed(checked(told, tmp_path)) == {"bundle.not_attested"}


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


class TestRounds:
    def test_a_receipt_by_a_strangers_key_fails(self, history: History, tmp_path: Path) -> None:
        goes_on(history, SigningKey.generate(), 3, restarts=1)
        assert failed(checked(history, tmp_path)) == {"bundle.not_attested"}

    def test_a_receipt_before_the_evidence_for_its_key_fails(
        self,
        history: History,
        tmp_path: Path,
    ) -> None:
        assert failed(checked(retold(history, [0, 1, 2, 5, 6, 3, 4, 7, 8]), tmp_path)) == {
            "bundle.not_attested"
        }

    def test_a_receipt_with_another_measurement_than_its_signers_evidence_fails(
        self,
        history: History,
        tmp_path: Path,
    ) -> None:
        told = retold(history, [0, 1, 2, 3])
        goes_on(told, told.enclave, measurement="0" * 64)
        assert failed(checked(told, tmp_path)) == {"bundle.not_attested"}

    def test_a_doubled_round_fails(self, history: History, tmp_path: Path) -> None:
        assert history.manifest is not None
        body = make_roster(history.manifest, 2, history.last)
        history.append(ROSTER, body)
        history.append(RECEIPT, make_receipt(history.manifest, body.roster, history.last, history.enclave))
        found = failed(checked(history, tmp_path))
        assert found == {"bundle.two_receipts", "bundle.two_rosters", "receipt.chain_broken"}

    def test_two_subsets_in_one_round_fail_by_their_lists_alone(
        self,
        history: History,
        tmp_path: Path,
    ) -> None:
        """Two averages over sets that differ by one hospital would be that hospital's by subtraction. The
        second receipt is kept back; both lists of contributors are countersigned."""
        assert history.manifest is not None
        whole = make_roster(history.manifest, 3, history.last)
        some = msgspec.structs.replace(whole.roster, inputs=whole.roster.inputs[:2])
        signatures = {site: countersign(some, key) for site, key in list(SITES.items())[:2]}
        history.append(ROSTER, whole)
        history.append(ROSTER, RosterBody(some, signatures))
        assert failed(checked(history, tmp_path)) == {"bundle.two_rosters"}

    def test_a_second_list_that_was_only_asked_for_fails(self, history: History, tmp_path: Path) -> None:
        assert history.manifest is not None
        whole = make_roster(history.manifest, 3, history.last)
        history.append(ROSTER, whole)
        other = msgspec.structs.replace(whole.roster, inputs=whole.roster.inputs[1:])
        history.append(ROSTER_FIXED, RosterFixedBody(other))
        assert failed(checked(history, tmp_path)) == {"bundle.two_rosters"}

    def test_a_round_beyond_the_manifest_fails(self, history: History, tmp_path: Path) -> None:
        goes_on(history, history.enclave, 4)
        assert failed(checked(history, tmp_path)) == {"bundle.round_outside"}

    def test_more_rows_than_a_hospital_approved_fail(self, history: History, tmp_path: Path) -> None:
        assert history.manifest is not None
        roster = make_roster(history.manifest, 3, history.last).roster
        inputs = make_receipt(history.manifest, roster, history.last, history.enclave).receipt.inputs
        swapped = (*inputs[:2], msgspec.structs.replace(inputs[2], samples=20_000))
        goes_on(history, history.enclave, 3, inputs=swapped)
        report = checked(history, tmp_path)
        assert failed(report) == {"bundle.too_many_rows"}
        assert "site-c counts with 20000 rows; the manifest has 100" in report.words("failed")[0]

    def test_a_chain_that_begins_in_nothing_fails(self, history: History, tmp_path: Path) -> None:
        """A whole log whose first receipt names one that was never logged."""
        told = retold(history, [0, 1, 2, 3])
        told.last = "d" * 64
        goes_on(told, told.enclave)
        assert failed(checked(told, tmp_path)) == {"receipt.chain_broken"}

    def test_a_receipt_that_hides_how_it_was_averaged_fails(self, history: History, tmp_path: Path) -> None:
        told = retold(history, [0, 1, 2, 3])
        goes_on(told, told.enclave, averaging=None)
        assert failed(checked(told, tmp_path)) == {"bundle.wrong_averaging"}


class TestWhoCounts:
    """The manifest asks for two in a round, and for three under a pooled score."""

    def round_of(self, aggregator: Enclave, *known: str, **changes: object) -> History:
        manifest = make_manifest(aggregator.policy())
        told = begun(manifest, **{"site-a": known})
        told.append(APPRAISAL, aggregator.appraised(told, manifest, told.enclave))
        goes_on(told, told.enclave, **changes)
        return told

    def test_a_round_of_hospitals_whom_one_member_never_confirmed_fails(
        self, aggregator: Enclave, tmp_path: Path
    ) -> None:
        told = self.round_of(aggregator, "site-a", metrics={})
        assert "roster.below_quorum" in failed(checked(told, tmp_path))

    def test_scores_pooled_with_a_hospital_that_one_member_never_confirmed_fail(
        self, aggregator: Enclave, tmp_path: Path
    ) -> None:
        told = self.round_of(aggregator, "site-a", "site-b")
        assert failed(checked(told, tmp_path)) == {"bundle.scores_of_few"}
        told = self.round_of(aggregator, "site-a", "site-b", metrics={})
        assert checked(told, tmp_path).verdict == "verified"

    def test_scores_that_do_not_say_whose_they_are_fail(self, aggregator: Enclave, tmp_path: Path) -> None:
        told = self.round_of(aggregator, *SITES, scoring=None)
        assert failed(checked(told, tmp_path)) == {"bundle.scores_of_few"}

    def test_a_list_of_confirmed_members_that_nobody_signed_fails(
        self, aggregator: Enclave, tmp_path: Path
    ) -> None:
        """The coordinator adds a hospital to those whom site-a has confirmed."""
        manifest = make_manifest(aggregator.policy())
        told = begun(manifest, **{"site-b": tuple(SITES)})
        given = approve(manifest.hash, "site-a", SITES["site-a"], ("site-a",))
        told.append(APPROVAL, ApprovalBody(manifest.hash, "site-a", tuple(SITES), given.signature))
        assert "sealing.bad_signature" in failed(checked(told, tmp_path))


class TestNoise:
    """An aggregator's receipts state less noise than was spent, or more was promised than was added."""

    PRIVACY = Privacy("site", 1.0, 1e-5)

    @pytest.fixture
    def told(self, aggregator: Enclave) -> History:
        manifest = make_manifest(aggregator.policy())
        rules = msgspec.structs.replace(manifest.aggregation, clip=1.0, privacy=self.PRIVACY)
        told = begun(msgspec.structs.replace(manifest, aggregation=rules))
        assert told.manifest is not None
        told.append(APPRAISAL, aggregator.appraised(told, told.manifest, told.enclave))
        return told

    def noisy(self, told: History, number: int, spent: Spent | None) -> None:
        averaging = Averaging("fedavg", len(SITES), 1.0, None, 0, 0.3)
        goes_on(told, told.enclave, number, averaging=averaging, privacy=spent)

    def honest(self, rounds: int, noise: float = 1.0) -> Spent:
        steps = tuple(NoisySteps(site, 1.0, rounds) for site in sorted(SITES))
        return Spent("site", "gaussian", noise, 1e-5, rounds, steps)

    def test_honest_receipts_are_verified_with_the_epsilon_that_they_come_to(
        self, told: History, tmp_path: Path
    ) -> None:
        for number in (1, 2):
            self.noisy(told, number, self.honest(number))
        goes_on(told, told.enclave, 3, averaging=None, privacy=self.honest(2))
        report = checked(told, tmp_path)
        assert (report.words("failed"), report.verdict) == ([], "verified")
        worth = epsilon([Gaussian(1.0, 1.0, 2)], 1e-5)
        words = f"Epsilon {worth:.4g} at delta 1e-05 per hospital after 2 rounds"
        assert any(line.startswith(words) for line in report.words("established", "rounds"))

    @pytest.mark.parametrize("case", ["fewer steps", "other noise", "a site left out", "none"])
    def test_receipts_that_state_less_than_was_spent_fail(
        self, told: History, tmp_path: Path, case: str
    ) -> None:
        self.noisy(told, 1, self.honest(1))
        honest = self.honest(2)
        self.noisy(
            told,
            2,
            {
                "fewer steps": self.honest(1),
                "other noise": self.honest(2, noise=4.0),
                "a site left out": msgspec.structs.replace(honest, sites=honest.sites[:2]),
                "none": None,
            }[case],
        )
        report = checked(told, tmp_path)
        assert failed(report) == {"bundle.wrong_noise"}
        worth = epsilon([Gaussian(1.0, 1.0, 2)], 1e-5)
        assert f"make it of epsilon {worth:.4g} at delta 1e-05 per site" in report.words("failed")[0]

    def test_noise_that_no_manifest_promised_fails(self, history: History, tmp_path: Path) -> None:
        told = retold(history, [0, 1, 2, 3])
        goes_on(told, told.enclave, privacy=self.honest(1))
        assert failed(checked(told, tmp_path)) == {"bundle.wrong_noise"}


class TestReleases:
    @pytest.fixture
    def told(self, aggregator: Enclave) -> History:
        """A run of two rounds whose parameters may be exported on two hospitals' orders."""
        manifest = make_manifest(aggregator.policy())
        told = begun(msgspec.structs.replace(manifest, release=Release("export", 2)))
        assert told.manifest is not None
        told.append(APPRAISAL, aggregator.appraised(told, told.manifest, told.enclave))
        for number in (1, 2):
            goes_on(told, told.enclave, number)
        return told

    def release(
        self, told: History, receipt: str, signer: SigningKey, sites: tuple[str, ...] = ("site-a", "site-b")
    ) -> None:
        manifest = told.manifest
        assert manifest is not None
        consents = {site: ordered(manifest, receipt, site, SITES[site]) for site in sites}
        released = Released(
            version=1, manifest=manifest.hash, run=manifest.run, receipt=receipt, rule="export",
            output="e" * 64, bytes=1, package="e" * 64, consents=tuple(sorted(consents)), recipients=(),
            program="aggregator", measurement=MRENCLAVE.hex(), development=True, issued=AT,
        )  # fmt: skip
        told.append(RELEASE, ReleaseBody(sign_release(released, signer), consents))

    def test_a_release_of_the_last_receipt_on_enough_orders_is_verified(
        self, told: History, tmp_path: Path
    ) -> None:
        self.release(told, told.last, told.enclave)
        report = checked(told, tmp_path)
        assert (report.verdict, report.verdicts()["releases"]) == ("verified", "verified")

    def test_a_release_of_an_earlier_state_fails(self, told: History, tmp_path: Path) -> None:
        first = parse_entry(told.leaves[5]).body["receipt"]
        self.release(told, digest(first), told.enclave)
        assert failed(checked(told, tmp_path)) == {"bundle.not_last_receipt"}

    def test_a_round_after_the_release_fails(self, told: History, tmp_path: Path) -> None:
        self.release(told, told.last, told.enclave)
        goes_on(told, told.enclave, 3)
        assert failed(checked(told, tmp_path)) == {"bundle.not_last_receipt"}

    def test_a_release_on_one_order_fails(self, told: History, tmp_path: Path) -> None:
        self.release(told, told.last, told.enclave, sites=("site-a",))
        assert failed(checked(told, tmp_path)) == {"release.too_few"}

    def test_a_release_on_orders_of_whom_one_member_never_confirmed_fails(
        self, aggregator: Enclave, tmp_path: Path
    ) -> None:
        """Two orders, one of a hospital that was made up as far as the third one knows."""
        manifest = msgspec.structs.replace(make_manifest(aggregator.policy()), release=Release("export", 2))
        told = begun(manifest, **{"site-c": ("site-a", "site-c")})
        told.append(APPRAISAL, aggregator.appraised(told, manifest, told.enclave))
        goes_on(told, told.enclave, metrics={})
        self.release(told, told.last, told.enclave, ("site-a", "site-b"))
        assert failed(checked(told, tmp_path)) == {"release.too_few"}

    def test_a_release_by_a_key_that_no_evidence_attests_fails(self, told: History, tmp_path: Path) -> None:
        self.release(told, told.last, SigningKey.generate())
        assert failed(checked(told, tmp_path)) == {"bundle.not_attested"}


class TestKeys:
    @pytest.fixture
    def told(self, aggregator: Enclave) -> History:
        """A run whose manifest accepts client slices as well, approved by all."""
        policy = aggregator.policy()
        slices = SgxReference("client_slice", mrenclave=MRENCLAVE.hex())
        return begun(make_manifest(msgspec.structs.replace(policy, references=(*policy.references, slices))))

    def admission(self, told: History, key: SigningKey, site: str = "site-a") -> AdmissionBody:
        assert told.manifest is not None
        return AdmissionBody(
            told.manifest.hash, "run-1", site, "e-1", key.public, MRENCLAVE.hex(), "client_slice"
        )

    def parameters(self, told: History, *keys: SigningKey) -> ParametersBody:
        assert told.manifest is not None
        recipients = tuple(key.public for key in keys)
        return ParametersBody(told.manifest.hash, "run-1", 1, "e" * 64, recipients, ("site-a",), "aggregator")

    def test_parameters_for_an_admitted_client_slice_are_verified(
        self,
        told: History,
        aggregator: Enclave,
        tmp_path: Path,
    ) -> None:
        assert told.manifest is not None
        key = SigningKey.generate()
        told.append(
            APPRAISAL,
            aggregator.appraised(told, told.manifest, key, subject="site-a", program="client_slice"),
        )
        told.append(KEY_RELEASE, self.admission(told, key))
        told.append(KEY_RELEASE, self.parameters(told, key))
        report = checked(told, tmp_path)
        assert (report.verdict, report.verdicts()["keys"]) == ("verified", "verified")

    def test_an_admission_without_evidence_and_parameters_for_a_stranger_fail(
        self, told: History, tmp_path: Path
    ) -> None:
        told.append(KEY_RELEASE, self.admission(told, SigningKey.generate()))
        told.append(KEY_RELEASE, self.parameters(told, SigningKey.generate()))
        report = checked(told, tmp_path)
        assert failed(report) == {"bundle.not_attested"} and report.failures == 2

    def test_one_hospitals_client_slice_admitted_as_anothers_fails(
        self,
        told: History,
        aggregator: Enclave,
        tmp_path: Path,
    ) -> None:
        assert told.manifest is not None
        key = SigningKey.generate()
        told.append(
            APPRAISAL,
            aggregator.appraised(told, told.manifest, key, subject="site-a", program="client_slice"),
        )
        told.append(KEY_RELEASE, self.admission(told, key, site="site-b"))
        assert failed(checked(told, tmp_path)) == {"bundle.not_attested"}
