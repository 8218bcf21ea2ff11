"""The split that the agent makes, and the synthetic notes."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from site_agent.datasets.splits import assign
from site_agent.synthetic import HOSPITALS, LABELS, MARK, notes, write_notes

ROWS = st.lists(st.tuples(st.integers(0, 60), st.sampled_from("abc")), min_size=10, max_size=120)


def hashes(rows: list[tuple[int, str]]) -> list[bytes]:
    return [hashlib.sha256(str(text).encode()).digest()[:16] for text, _ in rows]


@settings(deadline=None)
@given(ROWS)
def test_equal_texts_are_never_in_two_splits(rows: list[tuple[int, str]]) -> None:
    chosen = assign(hashes(rows), [label for _, label in rows])
    for text in {text for text, _ in rows}:
        assert len({split for (other, _), split in zip(rows, chosen, strict=True) if other == text}) == 1


@settings(deadline=None)
@given(ROWS, st.randoms(use_true_random=False))
def test_the_split_does_not_depend_on_the_order_of_rows(rows: list[tuple[int, str]], random: Random) -> None:
    rows = list({text: (text, label) for text, label in rows}.values())
    shuffled = list(rows)
    random.shuffle(shuffled)
    one = dict(zip(rows, assign(hashes(rows), [label for _, label in rows]), strict=True))
    other = dict(zip(shuffled, assign(hashes(shuffled), [label for _, label in shuffled]), strict=True))
    assert one == other


@settings(deadline=None)
@given(st.integers(10, 400), st.integers(1, 9))
def test_no_split_is_empty_and_the_shares_are_near_a_tenth(rows: int, labels: int) -> None:
    data = [(number, str(number % labels)) for number in range(rows)]
    chosen = assign(hashes(data), [label for _, label in data])
    counts = Counter(chosen)
    assert set(counts) == {"train", "validation", "test"}
    assert counts["train"] >= rows / 3
    if rows >= 10 * labels:
        assert abs(counts["test"] - rows / 10) <= 1
        assert abs(counts["validation"] - rows / 10) <= 1
        assert all(
            "test" in {split for (_, other), split in zip(data, chosen, strict=True) if other == label}
            for label in {label for _, label in data}
            if rows >= 20 * labels
        )


def test_synthetic_notes_are_marked_and_repeatable(tmp_path: Path) -> None:
    write_notes(tmp_path / "one.jsonl", hospital=2, rows=200, seed=7)
    write_notes(tmp_path / "two.jsonl", hospital=2, rows=200, seed=7)
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()
    rows = [json.loads(line) for line in (tmp_path / "one.jsonl").open()]
    assert len(rows) == 200
    assert all(row["text"].endswith(MARK) and row["synthetic"] is True for row in rows)
    write_notes(tmp_path / "two.jsonl", hospital=2, rows=200, seed=8)
    assert (tmp_path / "one.jsonl").read_bytes() != (tmp_path / "two.jsonl").read_bytes()


def test_every_hospital_has_every_category() -> None:
    for hospital in range(1, HOSPITALS + 1):
        assert {note["label"] for note in notes(hospital=hospital, rows=600, seed=1)} == set(LABELS)


def test_three_hospitals_together_know_more_than_each_alone() -> None:
    train = {h: list(notes(hospital=h, rows=500, seed=1)) for h in range(1, HOSPITALS + 1)}
    test = [note for h in train for note in notes(hospital=h, rows=150, seed=1001)]

    def accuracy(rows: list[dict[str, object]]) -> float:
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        model = LogisticRegression(C=10, max_iter=300)
        model.fit(words.fit_transform([str(row["text"]) for row in rows]), [row["label"] for row in rows])
        guesses = model.predict(words.transform([str(row["text"]) for row in test]))
        return float(np.mean(guesses == np.array([row["label"] for row in test])))

    alone = [accuracy(rows) for rows in train.values()]
    together = accuracy([row for rows in train.values() for row in rows])
    assert together > max(alone) + 0.15
    assert together < 0.95, "the exercise is too easy to show anything"
