"""Words with tags: CoNLL files and lists, what is refused, and what a card tells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from contracts.agents_api.datasets import Card
from contracts.refusal import Refusal
from contracts.rows import Row, TokensTags, read_row
from federation.datasets.cards import check
from site_agent.dataset_report import show
from site_agent.datasets.catalogue import Catalogue
from site_agent.datasets.columns import Columns
from site_agent.datasets.formats import detect
from site_agent.datasets.intake import BadRows, Intake, Wishes, take_in
from site_agent.state import State

ROWS = [
    {
        "tokens": ["case", str(n), "has", "chest", "pain"],
        "tags": ["O", "O", "O", "B-SIGN", "I-SIGN"] if n % 3 else ["O", "O", "O", "O", "O"],
    }
    for n in range(30)
]
CONLL = "-DOCSTART- -X- O O\n\n" + "\n".join(
    "".join(f"{word} NN _ {tag}\n" for word, tag in zip(row["tokens"], row["tags"], strict=True))
    for row in ROWS
)


def kept_of(tmp_path: Path, file: Path, **wishes: Any) -> tuple[Intake, list[Row]]:
    found = take_in([file], tmp_path / "kept.jsonl", Wishes(**wishes))
    return found, [read_row(line) for line in (tmp_path / "kept.jsonl").read_bytes().splitlines()]


def as_json(tmp_path: Path, rows: list[dict[str, Any]]) -> Path:
    file = tmp_path / "in.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_conll_and_lists_give_the_same_rows(tmp_path: Path) -> None:
    conll = tmp_path / "notes.txt"
    conll.write_text(CONLL)
    assert detect(conll).name == "conll" and "CoNLL" in str(detect(conll))
    for file in (conll, as_json(tmp_path, ROWS)):
        found, kept = kept_of(tmp_path, file)
        assert found.columns is not None and found.columns.kind == "token-tags"
        assert found.columns.guessed == ("tokens", "tags")
        assert found.labels == {"SIGN": 20}
        assert [(list(row.tokens), list(row.tags)) for row in kept if isinstance(row, TokensTags)] == [
            (row["tokens"], row["tags"]) for row in ROWS
        ]


def test_a_table_is_no_conll_file(tmp_path: Path) -> None:
    for text in ("text,label\nhas fever,O\n\nnone,O\n", "a b\nc d\n\n", "a O\nb O\n\nc O\n"):
        (tmp_path / "in.csv").write_text(text)
        assert detect(tmp_path / "in.csv").name == "delimited"


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        (["O"], "there are 2 tokens and 1 tags"),
        (["O", "I-SIGN"], "tag 2 goes on with an entity that has not begun"),
        (["B-DRUG", "I-SIGN"], "tag 2 goes on with an entity that has not begun"),
        (["O", "S-SIGN"], "tag 2 is none of O, B-TYPE, I-TYPE"),
        (["O", "B-"], "tag 2 is none of O, B-TYPE, I-TYPE"),
        ([0, 1], "tag 1 is a number; names are needed"),
        ([], "the tags are no list, or an empty one"),
        (["O", "B-" + "x" * 99], "tag 2 is longer than 100 characters"),
    ],
)
def test_tags_that_are_not_iob2_are_named_by_their_row(tmp_path: Path, tags: list[Any], reason: str) -> None:
    file = as_json(tmp_path, [*ROWS, {"tokens": ["a", "b"], "tags": tags}])
    with pytest.raises(BadRows) as caught:
        kept_of(tmp_path, file)
    assert [(fault.line, reason in fault.reason) for fault in caught.value.faults] == [(31, True)]


def test_types_are_renamed_and_other_columns_named(tmp_path: Path) -> None:
    odd = [{"w": row["tokens"], "t": row["tags"]} for row in ROWS]
    file = as_json(tmp_path, odd)
    columns = Columns(tokens="w", tags="t")
    found, kept = kept_of(tmp_path, file, columns=columns, label_map={"SIGN": "SYMPTOM"})
    assert found.labels == {"SYMPTOM": 20} and found.columns is not None and found.columns.guessed == ()
    assert isinstance(kept[1], TokensTags) and kept[1].tags[-2:] == ("B-SYMPTOM", "I-SYMPTOM")
    with pytest.raises(Refusal) as caught:
        kept_of(tmp_path, file, columns=Columns(tokens="w"))
    assert caught.value.code == "dataset.which_column"


def test_the_card_counts_rows_with_a_type_and_shows_no_word(tmp_path: Path) -> None:
    file = as_json(tmp_path, ROWS)
    dataset, intake = Catalogue(State(tmp_path / "state")).draft([file], "notes", Wishes())
    lines: list[str] = []
    show(dataset, intake, lambda text="": lines.append(text))
    said = "\n".join(lines)
    assert "each row is words, each with its tag (token-tags)" in said and "chest" not in said
    assert dataset.card.labels == {"SIGN": 20}
    check(Card(30, {"SIGN": 20}, {"train": 30}, {}, kind="token-tags"))
