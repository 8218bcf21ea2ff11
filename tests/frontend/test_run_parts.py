"""The parts of a run's page: what a round is called, what an ended run says, few rows, colours, columns."""

from __future__ import annotations

import csv
import json
import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from enclave_jobs.runs.models import Contribution, Round, Run
from enclave_jobs.runs.services import launch
from federation.people.models import User
from federation.sites.models import Site
from federation.studies.events import apply
from federation.studies.models import Event, Study
from frontend.intervals import sure, wilson
from frontend.label_tables import tables_of
from tests.federation.cast import Hospital
from tests.frontend.fullness import TABLES
from tests.frontend.page_reader import signed_in, text, unlinked


@pytest.fixture
def run(ready: Study, lena: User) -> Run:
    run = launch(lena, ready)
    apply(run, "starting", "joining")
    apply(run, "joining", "running")
    return run


@pytest.fixture
def lead(lena: User) -> Client:
    return signed_in(lena)


def page_of(lead: Client, run: Run) -> str:
    return text(lead, reverse("run", args=[run.pk]))


def test_the_round_after_the_last_is_an_evaluation_with_a_name(run: Run, lead: Client) -> None:
    Round.objects.create(run=run, number=4, state="published")
    last = Round.objects.create(run=run, number=5, kind="evaluate", state="collecting")
    Event.objects.create(study=run.study, run=run, round=last, kind="round.collecting")
    page = page_of(lead, run)
    assert "Round 4 of 4" in page and "Closing evaluation" in page
    assert "The closing evaluation: the hospitals work." in page and "Round 5" not in page


def test_a_cancelled_run_collects_no_more(run: Run, lead: Client, lena: User, anna: Hospital) -> None:
    round = Round.objects.create(run=run, number=1, state="collecting")
    Contribution.objects.create(round=round, site=anna.site, state="working")
    lead.post(reverse("run-steer", args=[run.pk, "cancel"]), {"confirm": "Triage"})
    page = page_of(lead, run)
    assert "not finished" in page and "cancelled" in page
    assert ">collecting<" not in page and ">working<" not in page


def score(run: Run, number: int, accuracy: float, rows: int) -> None:
    pooled = {"accuracy": accuracy, "loss": 0.5, "rows": rows}
    Round.objects.create(run=run, number=number, state="published", metrics={"pooled": pooled})


def test_few_rows_have_an_interval_and_the_best_round_is_marked(run: Run, lead: Client) -> None:
    for number, accuracy in ((1, 0.9), (2, 0.8), (3, 0.7)):
        score(run, number, accuracy, 30)
    best = {"receipt": "1" * 64, "round": 1, "loss": 0.5}  # as the enclave has named it
    for number in (2, 3):
        receipt = {"receipt": {"previous": str(number - 1) * 64, "best": best}}
        Round.objects.filter(run=run, number=number).update(receipt=receipt)
    page = lead.get(reverse("run", args=[run.pk]))
    assert page.context["best"].number == 2 and page.context["best_after"] == 1
    said = " ".join(page.content.decode().split())
    assert "on 30 rows; 95 % interval 52.1 % to 83.3 %" in said and said.count(">best<") == 1


def test_test_scores_stand_apart_from_what_was_chosen_by(run: Run, lead: Client) -> None:
    score(run, 1, 0.9, 30)
    score(run, 2, 0.8, 30)
    best = {"receipt": "1" * 64, "round": 1, "loss": 0.5}
    receipt = {"receipt": {"previous": "1" * 64, "best": best}}
    Round.objects.filter(run=run, number=2).update(kind="evaluate", receipt=receipt)
    reported = {"test": {"accuracy": 0.61, "loss": 0.9, "rows": 44}}
    Round.objects.create(
        run=run, number=8, kind="test", state="published", metrics=reported,
        receipt={"receipt": {"previous": "2" * 64, "best": best}},
    )  # fmt: skip
    page = lead.get(reverse("run", args=[run.pk]))
    said = " ".join(unlinked(page.content.decode()).split())
    assert page.context["accuracy"] == 0.8 and page.context["test"]["accuracy"] == 0.61
    assert "opened once, for the parameters of round 1" in said and "chosen by the enclave:" in said
    curves = lead.get(reverse("run-curves", args=[run.pk])).json()
    assert curves["accuracy"][0]["values"] == [0.9, 0.8], "no test score is a point of a curve"
    (row,) = csv.DictReader(lead.get(reverse("compare-csv"), {"run": run.pk}).content.decode().splitlines())
    assert (row["validation_accuracy"], row["test_accuracy"], row["best_round"]) == ("0.8", "0.61", "1")


def test_a_classifiers_tables_are_read_label_by_label(run: Run, lead: Client) -> None:
    reported = {"test": {"accuracy": 0.8, "loss": 0.6, "rows": 120, **TABLES}}
    Round.objects.create(run=run, number=8, kind="test", state="published", metrics=reported)
    page = lead.get(reverse("run", args=[run.pk]))
    found = page.context["tables"]
    labels = json.loads(run.manifest)["model"]["labels"]
    assert [label.name for label in found.labels] == labels and found.cell == 5
    second = found.labels[1]
    assert [cell.count for cell in second.cells] == [5, 30, 5]
    assert [cell.shade for cell in found.labels[0].cells] == [4, 1, 0]
    assert (second.precision, second.recall, second.f1) == pytest.approx((30 / 45, 30 / 40, 60 / 85))
    assert [(tenth.rows, tenth.right) for tenth in found.tenths][:3] == [(5, 0), (10, 0.5), (10, 0.5)]
    said = " ".join(re.sub(r"<[^>]*>", " ", page.content.decode()).split())
    assert "told as multiples of 5: 0 stands for less" in said and "0.900 macro AUROC on test rows" in said
    assert "on 120 rows; 95 % interval 72.0 % to 86.2 %" in said
    assert "Expected calibration error: 10.0 %" in said


def test_several_labels_have_no_confusion_and_a_line_each(run: Run, lead: Client) -> None:
    reported = {
        "accuracy": 0.6, "micro_f1": 0.72, "loss": 0.4, "rows": 120, "labels": 3, "auroc": 0.8, "cell": 5,
        "decisions": [[30, 10, 5, 75], [0, 5, 0, 115], [60, 0, 20, 40]], "calibration_error": 0.05,
        "reliability": [[200, 60, 40, 30, 30], [5, 10, 20, 25, 30]],
    }  # fmt: skip
    Round.objects.create(run=run, number=8, kind="test", state="published", metrics={"test": reported})
    page = lead.get(reverse("run", args=[run.pk]))
    first, second, _third = page.context["tables"].labels
    assert (first.rows, first.precision, first.recall) == (40, 30 / 35, 0.75)
    assert (second.precision, second.recall, second.f1) == (None, 0.0, 0.0)
    said = " ".join(re.sub(r"<[^>]*>", " ", page.content.decode()).split())
    assert "72.0 % micro-F1 on test rows" in said and "Confusion matrix" not in said
    assert "Decisions The row has it 0 % – 20 % 200 2.5 %" in said


def test_of_tagged_words_entities_and_words_are_told_and_not_labels(run: Run, lead: Client) -> None:
    reported = {
        "accuracy": 0.6,
        "word_accuracy": 0.93,
        "micro_f1": 0.72,
        "macro_f1": 0.64,
        "loss": 0.4,
        "rows": 120,
    }
    Round.objects.create(
        run=run, number=1, state="published", metrics={"pooled": {**reported, "micro_f1": 0.7}}
    )
    Round.objects.create(run=run, number=8, kind="test", state="published", metrics={"test": reported})
    said = " ".join(re.sub(r"<[^>]*>", " ", page_of(lead, run)).split())
    assert "70.0 % micro-F1 of entities on validation rows" in said and "whose labels" not in said
    assert "72.0 % micro-F1 of entities on test rows; accurate are rows whose tags are all right" in said
    assert said.count("93.0 % of words have the right tag") == 2


def test_counts_that_are_rounded_by_themselves_make_no_share_above_one() -> None:
    odd = {**TABLES, "confusion": [[5, 0], [0, 5]], "truth": [0, 5], "predicted": [0, 5],
           "reliability": [[5], [10]]}  # fmt: skip
    found = tables_of(odd, ("a", "b"))
    assert found is not None and found.labels[0].recall is None and found.labels[1].recall == 1.0
    assert found.tenths[0].right == 1.0 and tables_of({"accuracy": 1.0}, ("a", "b")) is None


def test_a_language_models_answers_are_told_as_written_exactly_and_as_ended(run: Run, lead: Client) -> None:
    written = {"token_accuracy": 0.95, "exact_match": 0.55, "stop_rate": 1.0, "loss": 0.1, "rows": 102,
               "written_rows": 48, "token_f1": 0.7, "rouge_l": 0.6}  # fmt: skip
    Round.objects.create(run=run, number=1, state="published", metrics={"pooled": written})
    reported = {"test": {**written, "exact_match": 0.65}}
    Round.objects.create(run=run, number=8, kind="test", state="published", metrics=reported)
    said = " ".join(page_of(lead, run).split())
    for figure in (
        "55.0 % of answers written exactly, validation",
        "100.0 % of answers end",
        "65.0 % of answers",
        "70.0 % token F1 of written answers, validation",
        "60.0 % ROUGE-L of written answers, test",
    ):
        assert figure in re.sub(r"<[^>]*>", " ", said).replace("  ", " ")
    curves = lead.get(reverse("run-curves", args=[run.pk])).json()
    assert [curves[name][0]["values"] for name in ("exact_match", "token_f1", "rouge_l")] == [
        [0.55],
        [0.7],
        [0.6],
    ]
    page = " ".join(lead.get(reverse("compare"), {"run": run.pk}).content.decode().split())
    for title in ("Written exactly, validation", "Token F1, test", "ROUGE-L, validation"):
        assert title in page, title
    data = lead.get(reverse("compare-data"), {"run": run.pk}).json()
    assert data["rouge_l"][0]["values"] == [0.6] and data["exact_match"][0]["counts"] == [102]
    lines = lead.get(reverse("compare-csv"), {"run": run.pk}).content.decode().splitlines()
    found = dict(zip(*csv.reader(lines), strict=True))
    assert (found["validation_token_f1"], found["test_exact_match"]) == ("0.7", "0.65")


def test_the_interval_is_wilsons() -> None:
    # R: prop.test(24, 30, correct = FALSE)$conf.int
    assert wilson(0.8, 30) == pytest.approx((0.6269, 0.9049), abs=1e-4)
    assert wilson(1.0, 5)[1] == 1.0 and wilson(0.0, 5)[0] == 0.0
    assert sure({"token_accuracy": 0.5, "rows": 9}) is None and sure({"accuracy": 0.5}) is None


COST = {"online_seconds": 1.0, "offline_seconds": 2.0, "peak_memory": 1 << 20, "model_bytes": 1 << 19}
ACCELERATED = {"wait_seconds": 1.0, "pads_used": 1, "pads_inline": 0, "pads_left": 0, "checks": 3,
    "bytes_out": 1, "bytes_back": 1}  # fmt: skip


@pytest.mark.parametrize(("more", "columns"), [({}, False), (ACCELERATED, True)])
def test_accelerator_columns_stand_only_where_an_accelerator_was_at_work(
    run: Run, lead: Client, anna: Hospital, more: dict[str, Any], columns: bool
) -> None:
    round = Round.objects.create(run=run, number=1, state="published")
    Contribution.objects.create(round=round, site=anna.site, state="accepted", measures={**COST, **more})
    assert ("Waiting for the accelerator" in page_of(lead, run)) is columns


def test_a_hospital_has_the_same_colour_on_every_page(run: Run, lead: Client, barbara: Hospital) -> None:
    round = Round.objects.create(run=run, number=1, state="published")
    Contribution.objects.create(round=round, site=barbara.site, state="accepted", bytes=9)
    wanted = f'<span class="swatch h{barbara.site.colour}" aria-hidden="true"></span>St. Barbara'
    assert page_of(lead, run).count(wanted) == 2  # its lane, and what it has done
    assert wanted in text(lead, reverse("sites"))
    assert len(set(Site.objects.values_list("colour", flat=True))) == Site.objects.count()


def test_every_part_has_its_panel_and_every_link_to_a_section_finds_one(run: Run, lead: Client) -> None:
    page = page_of(lead, run)
    tabs = set(re.findall(r'data-tab="(\w+)"', page))
    assert tabs == set(re.findall(r'data-panel="(\w+)"', page)) and len(tabs) == 5
    assert not tabs & set(re.findall(r'\sid="([^"]+)"', page)), "the browser would jump to it"
