"""A lead's sweep at the hospital's own machine: what is shown as one is one, every run of it is counted, and
no more results are let out than were signed for; and an auditor who is told less than that."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from contracts.approvals import Approval, InSweep, verify_approval
from contracts.manifest import Aggregation, Manifest, Privacy, Release, Spf, Split
from contracts.refusal import Refusal
from contracts.releases import Released, approve_release, sign_release
from contracts.sweep_tree import SweepTree
from privacy_accounting.epsilon import epsilon, planned
from site_agent.approvals import approved_copy
from site_agent.datasets.catalogue import Catalogue
from site_agent.sweeps import next_number
from tests.attacks.bundles import checked, failed
from tests.attacks.hospital import Hospital, attacked_hospital
from tests.log.conftest import (
    AT,
    MRENCLAVE,
    SITES,
    Enclave,
    History,
    aggregator,
    make_manifest,
    make_receipt,
    make_roster,
)
from tests.support.approvals import members
from tests.support.keys import approval_key
from tests.support.sweeps import approvals_of_sweep, point
from transparency_log.entry import (
    APPRAISAL,
    APPROVAL,
    RECEIPT,
    RELEASE,
    ROSTER,
    ApprovalBody,
    ReleaseBody,
)

__all__ = ["aggregator"]

ASKED = {"id": "sweep-1", "name": "Ratios", "points": 3, "releases": 1}


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    with attacked_hospital(tmp_path) as made:
        yield made


def ratios(hospital: Hospital, *ratios: float, **changes: Any) -> list[Manifest]:
    return [
        hospital.manifest(
            run=f"run-{number}",
            study=f"Triage {ratio:g} %",
            **{
                "method": "method-2",
                "adapter": Spf(ratio, ratio),
                "split": Split(1),
                "release": Release("sealed-to-sites", 2),
                **changes,
            },
        )
        for number, ratio in enumerate(ratios)
    ]


def root(manifests: list[Manifest]) -> str:
    return SweepTree([one.hash for one in manifests]).root


def signs(hospital: Hospital, manifests: list[Manifest], *options: str, **asked: Any) -> tuple[int, str]:
    """One command, one fingerprint."""
    hospital.offer(*manifests, sweep={**ASKED, "points": len(manifests), **asked})
    known = ("--confirm-members", "--accept", "unbounded", *options)
    return hospital.types("approve", "--yes", "--hash", root(manifests), *known)


def in_ledger(hospital: Hospital) -> list[str]:
    (account,) = json.loads(hospital.types("budget", "--json")[1])
    return [run["run"] for run in account["runs"]]


def test_one_signature_approves_every_point_and_counts_every_run(hospital: Hospital) -> None:
    manifests = ratios(hospital, 12.5, 25.0, 50.0)
    status, said = signs(hospital, manifests)
    assert status == 0, said
    assert "Approved 3 runs by one signature" in said
    for words in ("Heads", "12.5 %", "25 %", "50 %", "at most 1 of 3", "3 of them add no noise"):
        assert words in said, words
    assert hospital.approved == sorted(one.hash for one in manifests)
    assert sorted(in_ledger(hospital)) == ["run-0", "run-1", "run-2"]
    copies = [approved_copy(hospital.state, one.hash) for one in manifests]
    assert len({copy.signature for copy in copies}) == 1
    for one in manifests:
        verify_approval(one, "site-1", approved_copy(hospital.state, one.hash).given, "no")
    posted = [request.json for request in hospital.server.requests if request.body]
    assert {msgspec.convert(body["sweep"], InSweep).signed.root for body in posted} == {root(manifests)}


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("release", Release("export", 2)),
        ("purpose", "Something else"),
        ("aggregation", Aggregation("fedavg", 2, 900)),
        ("adapter", Spf(25.0, 25.0, rank=64)),
    ],
)
def test_a_point_that_differs_in_more_than_is_shown_is_signed_with_no_other(
    hospital: Hospital, field: str, other: Any
) -> None:
    """Among twelve ratios nobody would see the one that lets its parameters out by another rule."""
    manifests = [
        *ratios(hospital, 12.5, 50.0),
        replace(ratios(hospital, 25.0)[0], run="run-9", **{field: other}),
    ]
    status, said = signs(hospital, manifests)
    assert status == 1 and "[approval.sweep_differs]" in said and field in said, said
    assert hospital.approved == [] and in_ledger(hospital) == []


def test_a_manifest_that_came_after_the_fingerprint_was_read_is_not_signed_with_the_others(
    hospital: Hospital,
) -> None:
    manifests = ratios(hospital, 12.5, 25.0, 50.0)
    hospital.offer(*manifests, sweep=ASKED)
    shown = root(manifests[:2])
    status, said = hospital.types("approve", "--yes", "--hash", shown, "--confirm-members")
    assert status == 1 and "[approval.unknown]" in said, said
    assert hospital.approved == []


def test_the_budget_is_held_against_all_runs_together(hospital: Hospital) -> None:
    """Each alone would pass."""
    noise = Privacy("record", 2.0, 1e-5, 0.5)
    manifests = ratios(hospital, 12.5, 25.0, 50.0)
    manifests = [
        replace(one, method="method-1", adapter=hospital.manifest().adapter, split=None,
                training=replace(one.training, seed=number),
                aggregation=Aggregation("fedavg", 2, 600, privacy=noise))
        for number, one in enumerate(manifests)
    ]  # fmt: skip
    rows = Catalogue(hospital.state).training_rows(hospital.dataset)
    one = epsilon(planned(noise, manifests[0].training, rows), 1e-5)
    three = epsilon([step for each in manifests for step in planned(noise, each.training, rows)], 1e-5)
    assert one < three
    limit = (one + three) / 2
    assert hospital.types("budget", "set", "notes", "--per-row", f"{limit:.4f}")[0] == 0
    status, said = signs(hospital, manifests)
    assert status == 1 and "[ledger.over_budget]" in said, said
    assert hospital.approved == [] and in_ledger(hospital) == []
    assert hospital.types("budget", "set", "notes", "--per-row", f"{three + 0.01:.4f}")[0] == 0
    status, said = signs(hospital, manifests)
    assert status == 0, said
    stated = approved_copy(hospital.state, manifests[0].hash).sweep
    assert stated is not None and three <= stated.signed.record < three + 1e-3


def test_no_more_results_are_ordered_than_were_signed_for(hospital: Hospital) -> None:
    manifests = ratios(hospital, 12.5, 25.0, 50.0)
    assert signs(hospital, manifests, releases=2)[0] == 0
    first, second, third = manifests
    assert next_number(hospital.state, second, "sealed-to-sites") == 1
    assert next_number(hospital.state, second, "sealed-to-sites") == 1, (
        "the same result again is no further one"
    )
    assert next_number(hospital.state, first, "sealed-to-sites") == 2
    assert next_number(hospital.state, third, "serve-only") is None, "serving lets none out"
    with pytest.raises(Refusal) as refusal:
        next_number(hospital.state, third, "sealed-to-sites")
    assert refusal.value.code == "release.sweep_used_up"
    assert hospital.types("budget", "rebuild", "--yes")[0] == 0
    with pytest.raises(Refusal) as refusal:
        next_number(hospital.state, third, "sealed-to-sites")
    assert refusal.value.code == "release.sweep_used_up", "a ledger that was lost allows nothing again"


def test_a_sweep_whose_manifests_let_nothing_out_allows_no_release(hospital: Hospital) -> None:
    manifests = ratios(hospital, 12.5, 25.0, release=Release("nothing", 1))
    assert signs(hospital, manifests, releases=2)[0] == 0
    stated = approved_copy(hospital.state, manifests[0].hash).sweep
    assert stated is not None and stated.signed.releases == 0


def test_one_point_can_be_signed_alone(hospital: Hospital) -> None:
    manifests = ratios(hospital, 12.5, 25.0, 50.0)
    hospital.offer(*manifests, sweep=ASKED)
    status, said = hospital.approves(manifests[1])
    assert status == 0, said
    assert hospital.approved == [manifests[1].hash]
    assert approved_copy(hospital.state, manifests[1].hash).sweep is None


class TestBundles:
    """What an auditor is told, by a coordinator that owns the log."""

    def history(self, aggregator: Enclave, *numbers: int, stated: int | None = None) -> History:
        """Runs of one sweep, each to its end, each released under this number of all its orders."""
        base = replace(make_manifest(aggregator.policy()), release=Release("export", 2))
        points = [point(base, seed) for seed in range(len(numbers))]
        history = History(manifest=points[0])
        count = len(points) if stated is None else stated
        for number, manifest in zip(numbers, points, strict=True):
            self.run(history, aggregator, manifest, points, number, count)
        return history

    def run(
        self,
        history: History,
        aggregator: Enclave,
        manifest: Manifest,
        points: list[Manifest],
        number: int,
        unbounded: int,
    ) -> None:
        from contracts.canonical import canonical
        from contracts.receipts import NO_RECEIPT, receipt_hash

        history.manifest, history.last = manifest, NO_RECEIPT
        history.keep(canonical(manifest))
        given = approvals_of_sweep(manifest, points, SITES, releases=2, unbounded=unbounded)
        for site, one in given.items():
            history.append(
                APPROVAL, ApprovalBody(manifest.hash, site, one.confirmed, one.signature, one.sweep)
            )
        history.append(APPRAISAL, aggregator.appraised(history, manifest, history.enclave))
        for round in (1, 2):
            body = make_roster(manifest, round, history.last)
            history.append(ROSTER, body)
            receipt = make_receipt(manifest, body.roster, history.last, history.enclave, metrics={})
            history.append(RECEIPT, receipt)
            history.last = receipt_hash(receipt.receipt)
        known = members(manifest)
        release_approvals = {
            site: approve_release(
                manifest, history.last, site, approval_key(SITES[site]), known, number=number
            )
            for site in ("site-a", "site-b")
        }
        released = Released(
            version=1, manifest=manifest.hash, run=manifest.run, receipt=history.last, rule="export",
            output=f"{number}" * 64, bytes=1, package="e" * 64, approved_by=tuple(sorted(release_approvals)),
            recipients=(), program="aggregator", measurement=MRENCLAVE.hex(), development=True, issued=AT,
        )  # fmt: skip
        history.append(RELEASE, ReleaseBody(sign_release(released, history.enclave), release_approvals))

    def test_two_results_under_two_numbers_are_verified(self, aggregator: Enclave, tmp_path: Path) -> None:
        report = checked(self.history(aggregator, 1, 2), tmp_path)
        assert (report.verdict, report.verdicts()["releases"]) == ("verified", "verified"), report.words(
            "failed"
        )
        assert "Of them by one signature for a whole sweep: 6." in report.words("established")

    def test_two_results_under_one_number_fail(self, aggregator: Enclave, tmp_path: Path) -> None:
        assert failed(checked(self.history(aggregator, 1, 1), tmp_path)) == {"bundle.beyond_sweep"}

    def test_a_number_beyond_those_that_were_signed_fails(self, aggregator: Enclave, tmp_path: Path) -> None:
        assert failed(checked(self.history(aggregator, 1, 3), tmp_path)) == {"release.beyond_sweep"}

    def test_runs_that_tell_more_than_was_stated_fail(self, aggregator: Enclave, tmp_path: Path) -> None:
        assert failed(checked(self.history(aggregator, 1, 2, stated=1), tmp_path)) == {"bundle.beyond_sweep"}

    def test_a_run_that_is_not_in_the_sweep_fails(self, aggregator: Enclave, tmp_path: Path) -> None:
        history = self.history(aggregator, 1)
        assert history.manifest is not None
        other = replace(history.manifest, run="run-other")
        from contracts.canonical import canonical

        history.keep(canonical(other))
        for site, one in approvals_of_sweep(history.manifest, [history.manifest], SITES).items():
            history.append(APPROVAL, ApprovalBody(other.hash, site, one.confirmed, one.signature, one.sweep))
        assert failed(checked(history, tmp_path)) == {"approval.not_in_sweep"}


def test_an_approval_without_a_sweep_is_written_as_before() -> None:
    """Signatures and log entries of runs that were approved alone keep their form."""
    assert msgspec.to_builtins(Approval(("a",), "b" * 128)) == {"confirmed": ("a",), "signature": "b" * 128}
    assert "sweep" not in msgspec.to_builtins(ApprovalBody("a" * 64, "site-a", (), "b" * 128))
