"""Texts with any number of labels: the three ways in which files have them, what is asked, what is refused,
and what a card tells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from contracts.agents_api.datasets import Card
from contracts.refusal import Refusal
from contracts.rows import Row, TextLabels, read_row
from federation.datasets.cards import check
from site_agent.dataset_questions import require_answers
from site_agent.dataset_report import show
from site_agent.datasets.catalogue import Catalogue
from site_agent.datasets.columns import Columns
from site_agent.datasets.intake import BadRows, Intake, Wishes, take_in
from site_agent.datasets.suppression import suppress_each
from site_agent.state import State

HAS = [("fever",), (), ("cough", "fever"), ("cough",), ("fever",)]
LISTS = [{"text": f"a note about case {n}", "labels": list(HAS[n % 5])} for n in range(40)]
PARTED = [{"text": row["text"], "codes": ";".join(row["labels"])} for row in LISTS]
FLAGS = [
    {"text": row["text"], "fever": int("fever" in row["labels"]), "cough": int("cough" in row["labels"])}
    for row in LISTS
]


def take(tmp_path: Path, rows: list[dict[str, Any]], **wishes: Any) -> tuple[Intake, list[Row]]:
    source, target = tmp_path / "in.jsonl", tmp_path / "kept.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = take_in([source], target, Wishes(**wishes))
    return found, [read_row(line) for line in target.read_bytes().splitlines()]


def labels_of(kept: list[Row]) -> list[tuple[str, ...]]:
    assert all(isinstance(row, TextLabels) for row in kept)
    return [row.labels for row in kept]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("rows", "columns", "guessed"),
    [
        (LISTS, ("labels",), {"text", "labels"}),
        (PARTED, ("codes",), {"text", "labels", "separator"}),
        (FLAGS, ("fever", "cough"), {"text", "labels"}),
    ],
    ids=["lists", "parted", "flags"],
)
def test_the_three_ways_are_seen_and_give_the_same_rows(
    tmp_path: Path, rows: list[dict[str, Any]], columns: tuple[str, ...], guessed: set[str]
) -> None:
    found, kept = take(tmp_path, rows)
    assert found.columns is not None and found.columns.kind == "text-labels"
    assert found.columns.labels == columns and set(found.columns.guessed) == guessed
    assert labels_of(kept) == [HAS[n % 5] for n in range(40)]
    assert found.labels == {"fever": 24, "cough": 16} and set(found.splits) == {"train", "validation", "test"}
    with pytest.raises(Refusal) as caught:  # what was guessed is asked, and nobody is here
        require_answers(found, ())
    assert caught.value.code == "dataset.unconfirmed_columns"
    assert ("--label-separator" in str(caught.value.facts["options"])) is ("separator" in guessed)


def test_a_parquet_column_of_lists_and_a_csv_are_read(tmp_path: Path) -> None:
    table = pyarrow.table({name: [row[name] for row in LISTS] for name in ("text", "labels")})
    pyarrow.parquet.write_table(table, tmp_path / "in.parquet")
    text = "text,codes\n" + "".join(f"{row['text']},{row['codes']}\n" for row in PARTED)
    (tmp_path / "in.csv").write_text(text)
    for name in ("in.parquet", "in.csv"):
        take_in([tmp_path / name], tmp_path / "kept.jsonl", Wishes())
        kept = [read_row(line) for line in (tmp_path / "kept.jsonl").read_bytes().splitlines()]
        assert labels_of(kept) == [HAS[n % 5] for n in range(40)], name


def test_what_is_said_is_not_guessed(tmp_path: Path) -> None:
    odd = [{"text": row["text"], "what": row["codes"].replace(";", " / ")} for row in PARTED]
    found, kept = take(tmp_path, odd, columns=Columns(text="text", labels=("what",), separator="/"))
    assert found.columns is not None and found.columns.guessed == ()
    assert labels_of(kept)[2] == ("cough", "fever")
    with pytest.raises(Refusal) as caught:
        take(tmp_path, odd, columns=Columns(labels=("what",)))
    assert caught.value.code == "dataset.which_separator"


def test_a_label_column_still_means_one_class(tmp_path: Path) -> None:
    named = [{**row, "label": "ab"[n % 2]} for n, row in enumerate(FLAGS)]
    plural = [{"text": row["text"], "labels": "ab"[n % 2]} for n, row in enumerate(FLAGS)]
    for rows in (named, plural):
        found, _kept = take(tmp_path, rows)
        assert found.columns is not None and found.columns.kind == "text-label"


@pytest.mark.parametrize(
    ("spoilt", "columns", "reason"),
    [
        ({"fever": 2}, ("fever", "cough"), "the column fever is neither 0 nor 1"),
        ({"labels": "fever"}, ("labels",), None),
        ({"labels": ["x" * 201]}, ("labels",), "the label is longer than 200 characters"),
        ({"labels": ["a\u200bb"]}, ("labels",), "which cannot be seen"),
        ({"labels": [None]}, ("labels",), "the label is missing"),
        ({"labels": {"fever": 1}}, ("labels",), "the labels are no list"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(
    tmp_path: Path, spoilt: dict[str, Any], columns: tuple[str, ...], reason: str | None
) -> None:
    rows = [dict(row) for row in (FLAGS if "fever" in columns else LISTS)]
    rows[3] |= spoilt
    if reason is None:
        assert labels_of(take(tmp_path, rows, columns=Columns(labels=columns))[1])[3] == ("fever",)
        return
    with pytest.raises(BadRows) as caught:
        take(tmp_path, rows, columns=Columns(labels=columns))
    assert [(fault.line, reason in fault.reason) for fault in caught.value.faults] == [(4, True)]


def test_labels_are_renamed_and_rare_ones_left_out_row_by_row(tmp_path: Path) -> None:
    rows = [dict(row) for row in LISTS]
    rows[0]["labels"] = ["fever", "odd"]
    found, kept = take(tmp_path, rows, drop_rare_labels=True, label_map={"cough": "fever"})
    assert len(kept) == 39 and set(found.labels) == {"fever"}
    assert found.dropped["rare labels"] == 1 and labels_of(kept)[1] == ("fever",)


def test_more_labels_than_bits_are_refused(tmp_path: Path) -> None:
    rows = [{"text": f"note {n}", "labels": [f"label {n % 32}"]} for n in range(100)]
    with pytest.raises(Refusal) as caught:
        take(tmp_path, rows)
    assert caught.value.code == "dataset.too_many_labels" and caught.value.facts["limit"] == 31


def test_a_card_hides_few_rows_with_a_label_and_few_without() -> None:
    counts = {"none": 0, "few": 4, "some": 5, "most": 95, "nearly": 96, "all": 100}
    assert suppress_each(counts, 100) == {**counts, "few": None, "nearly": None}


def test_the_card_shows_labels_and_no_text_and_the_coordinator_takes_it(tmp_path: Path) -> None:
    source = tmp_path / "notes.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in LISTS))
    dataset, intake = Catalogue(State(tmp_path / "state")).draft([source], "notes", Wishes())
    lines: list[str] = []
    show(dataset, intake, lambda text="": lines.append(text))
    said = "\n".join(lines)
    assert "any number of labels (text-labels)" in said and "rows without any label" in said
    assert "8 rows" in said and "about case" not in said
    card = dataset.card
    published = Card(card.rows, dict(card.labels), dict(card.splits), {}, kind="text-labels")  # type: ignore[arg-type]
    check(published)
    assert card.labels == {"cough": 16, "fever": 24}
    for wrong in ({"fever": 3}, {"fever": 38}, {"fever": 41}):
        with pytest.raises(Refusal, match=r"card\."):
            check(Card(40, wrong, dict(card.splits), {}, kind="text-labels"))  # type: ignore[arg-type]
