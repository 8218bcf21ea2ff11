"""Token F1 and ROUGE-L are the field's; ROUGE-L's numbers here are those of the package rouge-score 0.1.2."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as some

from enclave.training.agreement import ONE, agreement

BY_ROUGE_SCORE = (
    (
        "The patient has a fever of 39.5, and a cough.",
        "The patient has a cough and a fever of 39.5",
        0.727272727,
    ),
    ("yes", "no", 0),
    ("", "anything", 0),
    ("take 2 tablets daily", "Take two tablets, daily!", 0.75),
    ("a b c d e f g", "g f e d c b a", 0.142857143),
    ("police killed the gunman", "police kill the gunman", 0.75),
    ("the cat was under the bed under the bed", "under the bed the cat was found", 0.5),
    ("rest", "rest rest rest rest", 0.4),
    ("co-amoxiclav 500 mg", "Co amoxiclav: 500mg", 0.571428571),
    ("...", "!!!", 0),
    (
        "continue aspirin and see your doctor in two weeks",
        "see your doctor in two weeks and continue aspirin",
        0.666666667,
    ),
)
"""RougeScorer(["rougeL"], use_stemmer=False).score(truth, written)["rougeL"].fmeasure."""
WORDS = some.lists(some.sampled_from(["a", "b", "fever", "39"]), max_size=7)


@pytest.mark.parametrize(("truth", "written", "expected"), BY_ROUGE_SCORE)
def test_rouge_l_is_that_of_rouge_score(truth: str, written: str, expected: float) -> None:
    assert agreement(truth, written).rouge_l / ONE == pytest.approx(expected, abs=1e-6)


@given(WORDS, WORDS)
def test_both_are_their_definitions(one: list[str], other: list[str]) -> None:
    @cache
    def common(i: int, j: int) -> int:
        if not i or not j:
            return 0
        if one[i - 1] == other[j - 1]:
            return common(i - 1, j - 1) + 1
        return max(common(i - 1, j), common(i, j - 1))

    def f1(found: int) -> float:
        if not found:
            return 0.0
        precision, recall = found / len(other), found / len(one)
        return 2 * precision * recall / (precision + recall)

    shared = sum(min(one.count(word), other.count(word)) for word in set(one))
    found = agreement(" ".join(one), " ".join(other))
    assert found.rouge_l / ONE == pytest.approx(f1(common(len(one), len(other))), abs=1e-6)
    assert found.f1 / ONE == pytest.approx(f1(shared), abs=1e-6)
    assert found.rouge_l <= found.f1
    assert found == agreement(" ".join(other), " ".join(one))


def test_words_of_other_languages_are_whole() -> None:
    """rouge-score, whose words are of a to z and digits, finds them alike."""
    assert agreement("für Ärzte", "fär ürzte") == (0, 0)
    assert agreement("Fieber für drei Tage", "fieber für DREI tage") == (ONE, ONE)
