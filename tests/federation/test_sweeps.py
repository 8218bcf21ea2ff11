"""Sweeps: clones that differ in their point alone, each approved, and the table that compares them."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from contracts.manifest import Spf
from contracts.policy import SgxReference
from contracts.refusal import Refusal
from enclave_jobs.runs import sweeps
from enclave_jobs.runs.models import Round, Run, RunState
from enclave_jobs.runs.sweeps import Axes, Spread
from federation.attestation import references
from federation.attestation.models import Root
from federation.people.models import User
from federation.studies import services
from federation.studies.models import Study, StudyState, Sweep
from federation.studies.plan import Plan, read
from tests.federation.cast import MODEL, Hospital
from tests.support.proofs import freeze as freeze_tried


@pytest.fixture
def split_draft(draft: Study, lena: User) -> Study:
    value = SgxReference(program="split_server", mrenclave=f"{9:064x}")
    references.add(None, value, root=Root.DEVELOPMENT, reason="for this test")
    plan = Plan(model=MODEL, method="method-2", cut=3, rounds=2, batch_size=4, seed=5)
    services.update_study(
        lena, draft, name=draft.name, purpose=draft.purpose, plan=plan, datasets=draft.datasets.all()
    )
    return draft


def swept(lena: User, study: Study, **axes: Any) -> Sweep:
    return sweeps.create(lena, study, Axes(**{"ratios": (12.5, 25.0), "seeds": (0, 1), **axes}))


def refused(code: str, act: Any) -> None:
    with pytest.raises(Refusal) as refusal:
        act()
    assert refusal.value.code == code
    assert not Sweep.objects.exists()


def test_every_point_is_a_study_of_its_own_that_differs_in_its_point_alone(
    lena: User, split_draft: Study
) -> None:
    sweep = swept(lena, split_draft, cuts=(2, 3), selects=("largest", "random"))
    points = list(sweep.points.all())
    assert len(points) == 16 == len({point.study_id for point in points})
    for point in points:
        plan = read(point.study.settings)
        assert (plan.attention_ratio, plan.dense_ratio) == (point.ratio, point.ratio)
        assert (plan.cut, plan.select, plan.seed) == (point.cut, point.select, point.seed)
        assert (plan.rounds, plan.batch_size, plan.model) == (2, 4, MODEL)
        assert set(point.study.datasets.all()) == set(split_draft.datasets.all())
    split_draft.refresh_from_db()
    assert split_draft.state == StudyState.DRAFT and read(split_draft.settings).seed == 5


def test_cut_and_seed_are_the_studys_where_none_are_given(lena: User, split_draft: Study) -> None:
    (point,) = swept(lena, split_draft, ratios=(50.0,), seeds=()).points.all()
    assert (point.cut, point.seed) == (3, 5)


def test_what_cannot_be_swept_is_refused_and_leaves_nothing(
    lena: User, ludo: User, draft: Study, split_draft: Study
) -> None:
    refused("auth.forbidden", lambda: swept(ludo, split_draft))
    refused("sweep.empty", lambda: swept(lena, split_draft, ratios=()))
    refused("sweep.too_large", lambda: swept(lena, split_draft, seeds=range(31)))
    refused("study.invalid_plan", lambda: swept(lena, split_draft, ratios=(101.0,)))
    plan = Plan(model=MODEL)
    services.update_study(
        lena, split_draft, name="Triage", purpose="", plan=plan, datasets=split_draft.datasets.all()
    )
    refused("sweep.not_method_2", lambda: swept(lena, split_draft))


def test_every_manifest_of_a_sweep_is_approved_by_every_site_before_it_runs(
    lena: User, anna: Hospital, barbara: Hospital, split_draft: Study
) -> None:
    sweep = swept(lena, split_draft, seeds=(0,))
    assert sweeps.freeze(lena, sweep) == {}
    studies = [point.study for point in sweep.points.select_related("study")]
    assert [study.model_jobs.count() for study in studies] == [1, 1]  # each is tried before it is frozen
    for study in studies:
        freeze_tried(lena, study)
        study.refresh_from_db()
    hashes = {study.manifest_hash for study in studies}
    assert len(hashes) == 2 and "" not in hashes
    assert sweeps.launch(lena, sweep) == {} and not Run.objects.exists()
    for hospital in (anna, barbara):
        digest = studies[0].manifest_hash
        services.sign_approval(hospital.as_agent(), digest, hospital.sign(digest))
    assert sweeps.launch(lena, sweep) == {}
    (run,) = Run.objects.all()
    assert run.study == studies[0]
    ratios = [Spf, read(run.study.settings).attention_ratio]
    assert ratios == [Spf, 12.5]


TRAINED = '{"training": {"batch_size": 4, "local_epochs": 1}}'
"""As much of a manifest as a step's time needs."""


def finish(study: Study, accuracy: float, seconds: float) -> None:
    summary = {"accuracy": accuracy, "macro_f1": accuracy / 2, "parameters": 1000, "optimizer_bytes": 8000}
    run = Run.objects.create(
        study=study, manifest=TRAINED, manifest_hash=study.pk.ljust(64, "0"), state=RunState.FINISHED,
        summary=summary,
    )  # fmt: skip
    training = {"loss": 1.0, "seconds": seconds, "rows": 10}
    for number in (1, 2):
        Round.objects.create(run=run, number=number, state="published", metrics={"training": training})


def test_the_table_shows_means_over_seeds_with_intervals_and_counts_only_finished_runs(
    lena: User, split_draft: Study
) -> None:
    sweep = swept(lena, split_draft, seeds=(0, 1, 2))
    for point, accuracy in zip(sweep.points.filter(ratio=12.5), (0.5, 0.6, 0.7), strict=True):
        finish(point.study, accuracy, seconds=6.0)
    first, second = sweeps.compare(sweep)
    assert (first.ratio, first.seeds, first.finished) == (12.5, 3, 3)
    assert first.accuracy.mean == pytest.approx(0.6)
    assert first.accuracy.half == pytest.approx(4.303 * 0.1 / 3**0.5)
    assert first.step_seconds.mean == pytest.approx(2.0)  # 10 rows in batches of 4 are 3 steps
    assert (first.parameters, first.optimizer_bytes) == (1000, 8000)
    assert (second.ratio, second.finished, second.accuracy) == (25.0, 0, Spread(None))


def test_the_csv_has_the_tables_numbers(lena: User, split_draft: Study) -> None:
    sweep = swept(lena, split_draft, seeds=(0,))
    finish(sweep.points.all()[0].study, 0.75, seconds=3.0)
    rows = list(csv.DictReader(io.StringIO(sweeps.as_csv(sweeps.compare(sweep)))))
    assert [row["ratio_percent"] for row in rows] == ["12.5", "25"]
    assert float(rows[0]["validation_accuracy"]) == 0.75 and float(rows[0]["step_seconds"]) == 1.0
    assert rows[1]["validation_accuracy"] == "" and rows[1]["finished"] == "0"


def test_an_interval_of_two_values_is_the_wide_one_of_students_t() -> None:
    assert Spread.of([0.4, 0.6]).half == pytest.approx(12.706 * 0.1, rel=1e-3)
    assert Spread.of([0.4]) == Spread(0.4, 0.0)
