"""The demo's questions for a language model: made up, the same each time, and answered by rules."""

import json
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.demo.discharge import ALONE, CLINICS, WORRIES, write_questions

ROWS = (60, 10, 10)
WAITS = {name: (clinic, wait) for clinic, (wait, names) in CLINICS.items() for name in names}


def questions(folder: Path, hospital: int, seed: int = 1) -> list[dict[str, str]]:
    file = folder / f"{hospital}-{seed}.jsonl"
    write_questions(file, hospital=hospital, rows=ROWS, seed=seed)
    return [json.loads(line) for line in file.read_text().splitlines()]


def diagnosis(prompt: str) -> str:
    return next(name for name in WAITS if f"after {name}," in prompt)


def test_the_same_arguments_give_the_same_rows_and_others_give_others(tmp_path: Path) -> None:
    assert questions(tmp_path, 1) == questions(tmp_path, 1)
    assert questions(tmp_path, 1) != questions(tmp_path, 2) != questions(tmp_path, 2, seed=2)


def test_each_answer_follows_from_its_question(tmp_path: Path) -> None:
    answers = set()
    for row in questions(tmp_path, 2):
        clinic, wait = WAITS[diagnosis(row["prompt"])]
        days = wait // 2 if any(f", {worry}, " in row["prompt"] for worry in WORRIES) else wait
        caller = "we call" if any(f", {alone}." in row["prompt"] for alone in ALONE) else "she calls"
        assert row["response"] == f"{clinic} clinic in {days} days, {caller}"
        answers.add(row["response"])
    assert len(answers) > 12, "no answer alone is right often"


@pytest.mark.parametrize("hospital", [1, 2, 3])
def test_a_hospital_meets_mostly_its_own_third(tmp_path: Path, hospital: int) -> None:
    found = Counter(list(WAITS).index(diagnosis(row["prompt"])) % 3 for row in questions(tmp_path, hospital))
    assert found[hospital - 1] > sum(ROWS) / 2 and min(found.values()) > 0
    assert Counter(row["split"] for row in questions(tmp_path, hospital)) == {
        "train": 60, "validation": 10, "test": 10
    }  # fmt: skip
