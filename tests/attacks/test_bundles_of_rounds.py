# ruff: noqa: F811, F401 (pytest's fixtures are imported, and named again as arguments)
"""Attacks on an auditor, of a run's rounds, of who counts in them, of noise and of what was let out.

See `test_bundles`: each was "verified" before.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from contracts.canonical import digest
from contracts.manifest import Privacy, Release
from contracts.receipts import Averaging, Best, NoisySteps, Spent
from contracts.releases import Released, sign_release
from contracts.roster import countersign
from contracts.signing import SigningKey
from privacy_accounting.epsilon import Gaussian, epsilon
from tests.attacks.bundles import begun, checked, failed, goes_on, retold
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
    tell,
)
from tests.support.approvals import approve, release_approval
from transparency_log.entry import (
    APPRAISAL,
    APPROVAL,
    RECEIPT,
    RELEASE,
    ROSTER,
    ROSTER_FIXED,
    SERVING,
    ApprovalBody,
    ReleaseBody,
    RosterBody,
    RosterFixedBody,
    ServingBody,
    parse_entry,
)
from transparency_log.report import BundleReport


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
        reported = retold(history, [0, 1, 2, 3])
        goes_on(reported, reported.enclave, measurement="0" * 64)
        assert failed(checked(reported, tmp_path)) == {"bundle.not_attested"}

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
        some = msgspec.structs.replace(whole.roster, inputs=whole.roster.inputs[:2], pooled=False)
        signatures = {site: countersign(some, key) for site, key in list(SITES.items())[:2]}
        history.append(ROSTER, whole)
        history.append(ROSTER, RosterBody(some, signatures))
        assert failed(checked(history, tmp_path)) == {"bundle.two_rosters"}

    def test_a_second_list_that_was_only_asked_for_fails(self, history: History, tmp_path: Path) -> None:
        assert history.manifest is not None
        whole = make_roster(history.manifest, 3, history.last)
        history.append(ROSTER, whole)
        other = msgspec.structs.replace(whole.roster, inputs=whole.roster.inputs[1:], pooled=False)
        history.append(ROSTER_FIXED, RosterFixedBody(other))
        assert failed(checked(history, tmp_path)) == {"bundle.two_rosters"}

    def test_scores_pooled_over_other_hospitals_or_by_no_leave_of_theirs_fail(
        self, history: History, tmp_path: Path
    ) -> None:
        assert history.manifest is not None
        whole = make_roster(history.manifest, 3, history.last).roster
        some = msgspec.structs.replace(whole, inputs=whole.inputs[:2])
        reported = retold(history, list(range(len(history.leaves))))
        for roster in (some, msgspec.structs.replace(whole, pooled=False)):
            signatures = {entry.site: countersign(roster, SITES[entry.site]) for entry in roster.inputs}
            reported.append(ROSTER, RosterBody(roster, signatures))
            reported.append(RECEIPT, make_receipt(history.manifest, roster, history.last, history.enclave))
            assert "bundle.two_pools" in failed(checked(reported, tmp_path))
            reported = retold(history, list(range(len(history.leaves))))

    def test_a_round_beyond_the_manifest_fails(self, history: History, tmp_path: Path) -> None:
        goes_on(history, history.enclave, 7)
        assert failed(checked(history, tmp_path)) == {"bundle.round_outside", "bundle.wrong_course"}

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
        reported = retold(history, [0, 1, 2, 3])
        reported.last = "d" * 64
        goes_on(reported, reported.enclave)
        assert failed(checked(reported, tmp_path)) == {"receipt.chain_broken"}

    def test_a_receipt_that_hides_how_it_was_averaged_fails(self, history: History, tmp_path: Path) -> None:
        reported = retold(history, [0, 1, 2, 3])
        goes_on(reported, reported.enclave, averaging=None)
        assert failed(checked(reported, tmp_path)) == {"bundle.wrong_averaging"}


class TestWhoCounts:
    """The manifest asks for two in a round, and for three under a pooled score."""

    def round_of(self, aggregator: Enclave, *known: str, **changes: object) -> History:
        manifest = make_manifest(aggregator.policy())
        reported = begun(manifest, **{"site-a": known})
        reported.append(APPRAISAL, aggregator.appraised(reported, manifest, reported.enclave))
        goes_on(reported, reported.enclave, **changes)
        return reported

    def test_a_round_of_hospitals_whom_one_member_never_confirmed_fails(
        self, aggregator: Enclave, tmp_path: Path
    ) -> None:
        reported = self.round_of(aggregator, "site-a", metrics={})
        assert "roster.below_quorum" in failed(checked(reported, tmp_path))

    def test_scores_pooled_with_a_hospital_that_one_member_never_confirmed_fail(
        self, aggregator: Enclave, tmp_path: Path
    ) -> None:
        reported = self.round_of(aggregator, "site-a", "site-b")
        assert failed(checked(reported, tmp_path)) == {"bundle.scores_of_few"}
        reported = self.round_of(aggregator, "site-a", "site-b", metrics={})
        assert checked(reported, tmp_path).verdict == "verified"

    def test_scores_that_do_not_say_whose_they_are_fail(self, aggregator: Enclave, tmp_path: Path) -> None:
        reported = self.round_of(aggregator, *SITES, scoring=None)
        assert failed(checked(reported, tmp_path)) == {"bundle.scores_of_few", "bundle.wrong_course"}

    def test_another_best_round_than_the_scores_make_fails(self, history: History, tmp_path: Path) -> None:
        """A coordinator that wants another round's parameters released says that this round is the best."""
        best = Best(history.last, 2, 0.1)
        goes_on(history, history.enclave, 3, metrics={"pooled": {"loss": 0.5}}, best=best)
        assert failed(checked(history, tmp_path)) == {"bundle.wrong_course"}

    def test_a_list_of_confirmed_members_that_nobody_signed_fails(
        self, aggregator: Enclave, tmp_path: Path
    ) -> None:
        """The coordinator adds a hospital to those whom site-a has confirmed."""
        manifest = make_manifest(aggregator.policy())
        reported = begun(manifest, **{"site-b": tuple(SITES)})
        given = approve(manifest.hash, "site-a", SITES["site-a"], ("site-a",))
        reported.append(APPROVAL, ApprovalBody(manifest.hash, "site-a", tuple(SITES), given.signature))
        assert "sealing.bad_signature" in failed(checked(reported, tmp_path))


class TestNoise:
    """An aggregator's receipts state less noise than was spent, or more was promised than was added."""

    PRIVACY = Privacy("site", 1.0, 1e-5)

    @pytest.fixture
    def reported(self, aggregator: Enclave) -> History:
        manifest = make_manifest(aggregator.policy())
        rules = msgspec.structs.replace(manifest.aggregation, clip=1.0, privacy=self.PRIVACY)
        reported = begun(msgspec.structs.replace(manifest, aggregation=rules))
        assert reported.manifest is not None
        reported.append(APPRAISAL, aggregator.appraised(reported, reported.manifest, reported.enclave))
        return reported

    def noisy(self, reported: History, number: int, spent: Spent | None) -> None:
        averaging = Averaging("fedavg", len(SITES), 1.0, None, 0, 0.3)
        goes_on(reported, reported.enclave, number, averaging=averaging, privacy=spent)

    def honest(self, rounds: int, noise: float = 1.0) -> Spent:
        steps = tuple(NoisySteps(site, 1.0, rounds) for site in sorted(SITES))
        return Spent("site", "gaussian", noise, 1e-5, rounds, steps)

    def test_honest_receipts_are_verified_with_the_epsilon_that_they_come_to(
        self, reported: History, tmp_path: Path
    ) -> None:
        for number in (1, 2):
            self.noisy(reported, number, self.honest(number))
        goes_on(reported, reported.enclave, 3, averaging=None, privacy=self.honest(2))
        report = checked(reported, tmp_path)
        assert (report.words("failed"), report.verdict) == ([], "verified")
        worth = epsilon([Gaussian(1.0, 1.0, 2)], 1e-5)
        words = f"Epsilon {worth:.4g} at delta 1e-05 per hospital after 2 rounds"
        assert any(line.startswith(words) for line in report.words("established", "rounds"))

    @pytest.mark.parametrize("case", ["fewer steps", "other noise", "a site left out", "none"])
    def test_receipts_that_state_less_than_was_spent_fail(
        self, reported: History, tmp_path: Path, case: str
    ) -> None:
        self.noisy(reported, 1, self.honest(1))
        honest = self.honest(2)
        self.noisy(
            reported,
            2,
            {
                "fewer steps": self.honest(1),
                "other noise": self.honest(2, noise=4.0),
                "a site left out": msgspec.structs.replace(honest, sites=honest.sites[:2]),
                "none": None,
            }[case],
        )
        report = checked(reported, tmp_path)
        assert failed(report) == {"bundle.wrong_noise"}
        worth = epsilon([Gaussian(1.0, 1.0, 2)], 1e-5)
        assert f"make it of epsilon {worth:.4g} at delta 1e-05 per site" in report.words("failed")[0]

    def test_noise_that_no_manifest_promised_fails(self, history: History, tmp_path: Path) -> None:
        reported = retold(history, [0, 1, 2, 3])
        goes_on(reported, reported.enclave, privacy=self.honest(1))
        assert failed(checked(reported, tmp_path)) == {"bundle.wrong_noise"}


class TestReleases:
    @pytest.fixture
    def reported(self, aggregator: Enclave) -> History:
        """A run of two rounds whose parameters may be exported on two hospitals' orders."""
        manifest = make_manifest(aggregator.policy())
        reported = begun(msgspec.structs.replace(manifest, release=Release("export", 2)))
        assert reported.manifest is not None
        reported.append(APPRAISAL, aggregator.appraised(reported, reported.manifest, reported.enclave))
        for number in (1, 2):
            goes_on(reported, reported.enclave, number)
        return reported

    def release(
        self,
        reported: History,
        receipt: str,
        signer: SigningKey,
        sites: tuple[str, ...] = ("site-a", "site-b"),
    ) -> None:
        manifest = reported.manifest
        assert manifest is not None
        release_approvals = {site: release_approval(manifest, receipt, site, SITES[site]) for site in sites}
        released = Released(
            version=1, manifest=manifest.hash, run=manifest.run, receipt=receipt, rule="export",
            output="e" * 64, bytes=1, package="e" * 64, approved_by=tuple(sorted(release_approvals)),
            recipients=(), program="aggregator", measurement=MRENCLAVE.hex(), development=True, issued=AT,
        )  # fmt: skip
        reported.append(RELEASE, ReleaseBody(sign_release(released, signer), release_approvals))

    def test_a_release_of_the_last_receipt_on_enough_orders_is_verified(
        self, reported: History, tmp_path: Path
    ) -> None:
        self.release(reported, reported.last, reported.enclave)
        report = checked(reported, tmp_path)
        assert (report.verdict, report.verdicts()["releases"]) == ("verified", "verified")

    def test_a_release_of_an_earlier_state_fails(self, reported: History, tmp_path: Path) -> None:
        first = parse_entry(reported.leaves[5]).body["receipt"]
        self.release(reported, digest(first), reported.enclave)
        assert failed(checked(reported, tmp_path)) == {"bundle.not_last_receipt"}

    def test_a_round_after_the_release_fails(self, reported: History, tmp_path: Path) -> None:
        self.release(reported, reported.last, reported.enclave)
        goes_on(reported, reported.enclave, 3)
        assert failed(checked(reported, tmp_path)) == {"bundle.not_last_receipt"}

    def test_a_release_on_one_order_fails(self, reported: History, tmp_path: Path) -> None:
        self.release(reported, reported.last, reported.enclave, sites=("site-a",))
        assert failed(checked(reported, tmp_path)) == {"release.too_few"}

    def test_serving_is_verified_by_its_orders_of_the_last_receipt_and_an_order_to_export_is_none(
        self, reported: History, tmp_path: Path
    ) -> None:
        manifest = reported.manifest
        assert manifest is not None

        def serve(name: str, rule: str, *sites: str) -> BundleReport:
            again = retold(reported, list(range(len(reported.leaves))))
            given = {
                site: release_approval(manifest, reported.last, site, SITES[site], rule=rule)
                for site in sites
            }
            again.append(SERVING, ServingBody(manifest.hash, reported.last, given))
            (tmp_path / name).mkdir()
            return checked(again, tmp_path / name)

        assert serve("good", "serve-only", "site-a", "site-b").verdicts()["releases"] == "verified"
        assert failed(serve("few", "serve-only", "site-a")) == {"release.too_few"}
        assert failed(serve("export", "export", "site-a", "site-b")) == {"release.bad_approval"}

    def test_a_release_on_orders_of_whom_one_member_never_confirmed_fails(
        self, aggregator: Enclave, tmp_path: Path
    ) -> None:
        """Two orders, one of a hospital that was made up as far as the third one knows."""
        manifest = msgspec.structs.replace(make_manifest(aggregator.policy()), release=Release("export", 2))
        reported = begun(manifest, **{"site-c": ("site-a", "site-c")})
        reported.append(APPRAISAL, aggregator.appraised(reported, manifest, reported.enclave))
        goes_on(reported, reported.enclave, metrics={})
        self.release(reported, reported.last, reported.enclave, ("site-a", "site-b"))
        assert failed(checked(reported, tmp_path)) == {"release.too_few"}

    def test_a_release_by_a_key_that_no_evidence_attests_fails(
        self, reported: History, tmp_path: Path
    ) -> None:
        self.release(reported, reported.last, SigningKey.generate())
        assert failed(checked(reported, tmp_path)) == {"bundle.not_attested"}
