"""A lead who asks again and again: each run is sound by itself, and together they tell what none of them may.

Before, a hospital's agent approved each run for itself: two runs that differ by one hospital could be
subtracted, and no sum of noise was kept for a dataset.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contracts.manifest import Aggregation, DatasetRef, Manifest, Privacy, Site
from contracts.signing import SigningKey
from privacy_accounting.epsilon import Gaussian, epsilon
from site_agent.datasets.catalogue import Catalogue
from tests.attacks.hospital import Hospital, attacked_hospital
from tests.site_agent.factories import add_dataset
from tests.support.keys import approval_key

QUIET = {"unbounded": False}
THIRD = SigningKey.generate()


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    with attacked_hospital(tmp_path) as made:
        yield made


def noisy(hospital: Hospital, run: str, unit: str = "site", noise: float = 2.0, **changes: Any) -> Manifest:
    privacy = Privacy(unit, noise, 1e-5, None if unit == "site" else 0.5)  # type: ignore[arg-type]
    clip = 1.0 if unit == "site" else None
    return hospital.manifest(
        run=run, aggregation=Aggregation("fedavg", 2, 600, clip, privacy=privacy), **changes
    )


def offered(hospital: Hospital, manifest: Manifest, *options: str, **more: Any) -> tuple[int, str]:
    hospital.offer(manifest)
    return hospital.approves(manifest, *options, **more)


def with_a_third(manifest: Manifest, **changes: Any) -> Manifest:
    third = Site(
        "site-3", "St. Clara", THIRD.public, approval_key(THIRD).public, DatasetRef("ds-3", "3" * 64, 50)
    )
    return msgspec.structs.replace(manifest, sites=(*manifest.sites, third), **changes)


class TestSubtraction:
    def test_two_runs_that_differ_by_one_hospital_are_named_and_need_a_yes(self, hospital: Hospital) -> None:
        first = hospital.manifest(run="run-1")
        assert offered(hospital, first)[0] == 0
        second = with_a_third(hospital.manifest(run="run-2"))
        status, said = offered(hospital, second)
        assert (status, "differs-by-one-hospital" in said) == (1, True), said
        assert (
            'This differs from run run-1 ("Triage") by one hospital, St. Clara: the difference of the two '
            "results is that hospital's." in said
        )
        assert hospital.approved == [first.hash]
        assert offered(hospital, second, "--accept", "differs-by-one-hospital")[0] == 0

    def test_another_seed_or_learning_rate_does_not_hide_it(self, hospital: Hospital) -> None:
        assert offered(hospital, hospital.manifest(run="run-1"))[0] == 0
        training = msgspec.structs.replace(hospital.manifest().training, seed=8, learning_rate=2e-3)
        status, said = offered(hospital, with_a_third(hospital.manifest(run="run-2"), training=training))
        assert (status, "differs-by-one-hospital" in said) == (1, True), said

    def test_noise_per_hospital_in_both_covers_their_difference_and_in_one_does_not(
        self, hospital: Hospital
    ) -> None:
        assert offered(hospital, noisy(hospital, "run-1"), **QUIET)[0] == 0
        assert offered(hospital, with_a_third(noisy(hospital, "run-2")), **QUIET)[0] == 0
        status, said = offered(hospital, hospital.manifest(run="run-3"))
        assert (status, "by one hospital, St. Clara" in said) == (1, True), said


class TestUnbounded:
    def test_a_run_without_noise_needs_a_yes_of_its_own_and_is_no_sum(self, hospital: Hospital) -> None:
        manifest = hospital.manifest()
        status, said = offered(hospital, manifest, **QUIET)
        assert (status, "[approval.weak]" in said, "unbounded" in said) == (1, True, True), said
        assert hospital.approved == []
        assert offered(hospital, manifest)[0] == 0
        status, said = hospital.types("budget", "--json")
        (account,) = json.loads(said)
        assert account["told"] == {"per_site": 0, "per_row": 0, "unbounded": 1}

    def test_a_hospital_that_allows_one_such_run_approves_no_second(self, hospital: Hospital) -> None:
        assert hospital.types("budget", "set", "notes", "--unbounded", "1")[0] == 0
        assert offered(hospital, hospital.manifest(run="run-1"))[0] == 0
        status, said = offered(hospital, hospital.manifest(run="run-2"))
        assert (status, "[ledger.over_budget]" in said) == (1, True), said
        assert len(hospital.approved) == 1


class TestBudget:
    def test_the_runs_of_a_sweep_count_together_until_the_budget_is_spent(self, hospital: Hospital) -> None:
        """Each run has epsilon 4.0; three composed have 7.6, and not 12."""
        assert hospital.types("budget", "set", "notes", "--per-hospital", "8")[0] == 0
        sweep = [noisy(hospital, f"run-{n}") for n in range(4)]
        for manifest in sweep[:3]:
            status, said = offered(hospital, manifest, **QUIET)
            assert status == 0, said
        reported = epsilon([Gaussian(2.0, 1.0, 9)], 1e-5)
        assert reported < 8 < epsilon([Gaussian(2.0, 1.0, 12)], 1e-5)
        status, said = offered(hospital, sweep[3], **QUIET)
        assert (status, "[ledger.over_budget]" in said) == (1, True), said
        assert f"epsilon {reported:.3g} → " in said and "budget 8" in said
        assert len(hospital.approved) == 3

    def test_to_approve_a_run_again_counts_once(self, hospital: Hospital) -> None:
        manifest = noisy(hospital, "run-1")
        for _ in range(3):
            assert offered(hospital, manifest, **QUIET)[0] == 0
        assert len(json.loads(hospital.types("budget", "--json")[1])[0]["runs"]) == 1

    def test_levels_are_kept_apart(self, hospital: Hospital) -> None:
        assert hospital.types("budget", "set", "notes", "--per-row", "0.1")[0] == 0
        assert offered(hospital, noisy(hospital, "run-1"), **QUIET)[0] == 0
        second = noisy(hospital, "run-2", "record")
        status, said = offered(hospital, second, "--accept", "less-noise", "--accept", "looser-clip", **QUIET)
        assert (status, "epsilon per row" in said) == (1, True), said

    def test_a_row_counts_with_the_rate_and_steps_of_this_hospitals_training_rows(
        self, hospital: Hospital
    ) -> None:
        assert offered(hospital, noisy(hospital, "run-1", "record"), **QUIET)[0] == 0
        (run,) = json.loads(hospital.types("budget", "--json")[1])[0]["runs"]
        rows = Catalogue(hospital.state).training_rows(hospital.dataset)
        assert 16 < rows < 40
        assert (run["rate"], run["steps"]) == (16 / rows, 3 * -(-rows // 16))


class TestAddedAgain:
    """A dataset that comes back under another name, in another order, or with some rows left out."""

    def add(self, hospital: Hospital, folder: Path, texts: list[str], name: str, *options: str) -> str:
        file = folder / f"{name}.jsonl"
        rows = [{"text": text, "label": "red" if n % 2 else "green"} for n, text in enumerate(texts)]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        said_so = ("--text-column", "text", "--label-column", "label", "--no-publish", "--yes")
        status, said = hospital.types("dataset", "add", str(file), "--name", name, *said_so, *options)
        assert status == 0, said
        return said

    def lineages(self, hospital: Hospital) -> list[list[str]]:
        return [account["datasets"] for account in json.loads(hospital.types("budget", "--json")[1])]

    def test_rows_under_another_name_inherit_what_was_spent(self, hospital: Hospital, tmp_path: Path) -> None:
        said = self.add(hospital, tmp_path, [f"Note  {n} of notes" for n in range(12, 40)], "other")
        assert 'It continues "notes": 100% of the texts are the same.' in said
        assert self.lineages(hospital) == [["notes", "other"]]

    def test_also_when_the_first_was_removed(self, hospital: Hospital, tmp_path: Path) -> None:
        assert hospital.types("budget", "set", "notes", "--unbounded", "0")[0] == 0
        catalogue = Catalogue(hospital.state)
        catalogue.remove(hospital.dataset, None)
        again = add_dataset(hospital.state, tmp_path, "notes")
        assert self.lineages(hospital) == [["notes"]]
        assert again.digest == hospital.dataset.digest
        status, said = offered(hospital, hospital.manifest())
        assert (status, "[ledger.over_budget]" in said) == (1, True), said

    def test_other_people_are_a_lineage_of_their_own(self, hospital: Hospital, tmp_path: Path) -> None:
        self.add(hospital, tmp_path, [f"quite another text {n}" for n in range(30)], "other")
        assert self.lineages(hospital) == [["notes"], ["other"]]

    def test_the_same_name_over_new_rows_inherits_unless_a_person_says_why_not(
        self, hospital: Hospital, tmp_path: Path
    ) -> None:
        Catalogue(hospital.state).remove(hospital.dataset, None)
        texts = [f"quite another text {n}" for n in range(30)]
        said = self.add(hospital, tmp_path, texts, "notes")
        assert "it has the same name" in said and self.lineages(hospital) == [["notes"]]
        texts = [f"a third kind of text {n}" for n in range(30)]
        hospital.types("dataset", "remove", "notes")
        self.add(hospital, tmp_path, texts, "notes", "--new-lineage", "patients of another clinic")
        assert self.lineages(hospital) == [["notes"], ["notes"]]

    def test_the_very_rows_are_no_new_lineage_and_a_reason_is_one(
        self, hospital: Hospital, tmp_path: Path
    ) -> None:
        Catalogue(hospital.state).remove(hospital.dataset, None)
        file = tmp_path / "notes.jsonl"
        columns = ("--text-column", "text", "--label-column", "label", "--no-publish", "--yes")
        for reason, code in (("patients of another clinic", "ledger.same_rows"), ("x", "ledger.no_reason")):
            status, said = hospital.types("dataset", "add", str(file), *columns, "--new-lineage", reason)
            assert (status, f"[{code}]" in said) == (1, True), said
        assert Catalogue(hospital.state).all() == []

    def test_a_dataset_of_two_makes_them_one(self, hospital: Hospital, tmp_path: Path) -> None:
        other = [f"quite another text {n}" for n in range(30)]
        self.add(hospital, tmp_path, other, "other")
        hospital.types("budget", "set", "other", "--per-row", "3")
        self.add(hospital, tmp_path, [*other[:10], *(f"note {n} of notes" for n in range(20))], "both")
        assert self.lineages(hospital) == [["notes", "other", "both"]]
        assert json.loads(hospital.types("budget", "--json")[1])[0]["budget"]["per_row"] == 3


class TestTheLedgersFile:
    @pytest.fixture
    def spent(self, hospital: Hospital) -> Hospital:
        assert offered(hospital, noisy(hospital, "run-1"), **QUIET)[0] == 0
        return hospital

    def refused(self, hospital: Hospital, code: str) -> None:
        before = hospital.approved
        for status, said in (
            offered(hospital, noisy(hospital, "run-2"), **QUIET),
            hospital.types("budget"),
        ):
            assert (status, f"[{code}]" in said) == (1, True), said
        assert hospital.approved == before

    def test_edited_it_is_no_ledger(self, spent: Hospital) -> None:
        path = spent.state.folder / "ledger.json"
        text = path.read_text()
        assert '"steps":3' in text
        path.write_text(text.replace('"steps":3', '"steps":1'))
        self.refused(spent, "ledger.damaged")
        path.write_text(text[:100])
        self.refused(spent, "ledger.damaged")
        path.write_text(text)
        assert spent.types("budget")[0] == 0

    def test_deleted_it_is_not_empty(self, spent: Hospital) -> None:
        (spent.state.folder / "ledger.json").unlink()
        self.refused(spent, "ledger.missing")

    def test_an_older_copy_lacks_what_was_approved_since(self, spent: Hospital) -> None:
        path = spent.state.folder / "ledger.json"
        old = path.read_bytes()
        assert offered(spent, noisy(spent, "run-3"), **QUIET)[0] == 0
        path.write_bytes(old)
        self.refused(spent, "ledger.damaged")

    def test_counted_again_it_has_every_approved_run(self, spent: Hospital) -> None:
        path = spent.state.folder / "ledger.json"
        path.write_text("{}")
        status, said = spent.types("budget", "rebuild", "--yes")
        assert (status, "Counted again: 1 run." in said) == (0, True), said
        (account,) = json.loads(spent.types("budget", "--json")[1])
        assert [run["run"] for run in account["runs"]] == ["run-1"]
        assert account["told"]["per_site"] == epsilon([Gaussian(2.0, 1.0, 3)], 1e-5)
        assert offered(spent, noisy(spent, "run-2"), **QUIET)[0] == 0

    def test_a_run_is_counted_before_its_approval_leaves(self, hospital: Hospital) -> None:
        manifest = noisy(hospital, "run-1")
        hospital.offer(manifest)
        whole = hospital.server.answer
        counted = []

        def answer(request: Any) -> Any:
            if request.method == "POST" and request.path == "approvals":
                counted.append("run-1" in (hospital.state.folder / "ledger.json").read_text())
            return whole(request)

        hospital.server.answer = answer
        assert hospital.approves(manifest, **QUIET)[0] == 0
        assert counted == [True]
