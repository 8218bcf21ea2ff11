"""Scores count right, agree with scikit-learn, and pool exactly."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.learning import summary
from contracts.refusal import Refusal
from enclave.programs.opening import check
from enclave.programs.publication import pool
from enclave.training import rates
from enclave.training.metrics import Scores

metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")

pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60)


def scored(truth_and_guess: list[tuple[int, int]], labels: int = 4) -> Scores:
    confusion = [[0] * labels for _ in range(labels)]
    for truth, guess in truth_and_guess:
        confusion[truth][guess] += 1
    n, correct = len(truth_and_guess), sum(truth == guess for truth, guess in truth_and_guess)
    return Scores(n, n, correct, 0.5 * n, tuple(map(tuple, confusion)))


def test_macro_f1_by_hand() -> None:
    # label 0: 2 of 3 found, 1 false alarm: F1 = 4/6. Label 1: 1 of 2 found, 1 false alarm: F1 = 2/4.
    scores = scored([(0, 0), (0, 0), (0, 1), (1, 1), (1, 0)], labels=2)
    assert rates.macro_f1(scores) == pytest.approx((4 / 6 + 2 / 4) / 2)
    assert rates.accuracy(scores) == pytest.approx(3 / 5)


@settings(deadline=None)
@given(pairs)
def test_scores_agree_with_scikit_learn(found: list[tuple[int, int]]) -> None:
    truth, guess = zip(*found, strict=True)
    scores = scored(found)
    assert rates.macro_f1(scores) == pytest.approx(metrics.f1_score(truth, guess, average="macro"))
    assert rates.accuracy(scores) == pytest.approx(metrics.accuracy_score(truth, guess))


@settings(deadline=None)
@given(pairs, st.integers(0, 60))
def test_the_pooled_score_is_the_score_of_all_rows(found: list[tuple[int, int]], cut: int) -> None:
    assert pool([scored(found[:cut]), scored(found[cut:])]) == scored(found)


def test_pooling_does_not_average_averages() -> None:
    large, small = scored([(0, 0)] * 90 + [(0, 1)] * 10), scored([(1, 0)] * 2)
    assert rates.accuracy(pool([large, small])) == pytest.approx(90 / 102)


def test_pooling_different_things_is_refused() -> None:
    for others in (
        [],
        [scored([(0, 0)]), scored([(0, 0)], labels=5)],
        [scored([(0, 0)]), Scores(1, 3, 2, 0.1)],
    ):
        with pytest.raises(Refusal) as caught:
            pool(others)
        assert caught.value.code == "metrics.mismatch"


def test_a_causal_score_has_perplexity_and_token_accuracy() -> None:
    scores = Scores(rows=2, predictions=10, correct=4, loss_sum=10 * math.log(7), exact=1, ended=2)
    reported = summary(scores)
    assert reported["perplexity"] == pytest.approx(7)
    assert (reported["token_accuracy"], reported["tokens"], reported["rows"]) == (0.4, 10, 2)
    assert (reported["exact_match"], reported["stop_rate"]) == (0.5, 1)
    check(scores, 0)
    assert pool([scores, scores]) == Scores(4, 20, 8, 20 * math.log(7), (), 2, 4)
    assert summary(Scores(1, 1, 0, 1e6))["perplexity"] == math.inf


def test_no_rows_score_zero_and_do_not_divide() -> None:
    empty = Scores(0, 0, 0, 0.0, ((0, 0), (0, 0)))
    assert (rates.accuracy(empty), rates.loss(empty), rates.macro_f1(empty)) == (0.0, 0.0, 0.0)


FORGED = [
    Scores(5, 5, 5, 1.0, ((2, 0), (0, 2))),  # fewer rows than claimed
    Scores(4, 4, 3, 1.0, ((2, 0), (0, 2))),  # another number of right ones
    Scores(4, 4, 4, math.nan, ((2, 0), (0, 2))),
    Scores(4, 4, 4, math.inf, ((2, 0), (0, 2))),
    Scores(4, 4, 4, -1.0, ((2, 0), (0, 2))),
    Scores(4, 4, 4, 1.0, ((2, 0, 0), (0, 2, 0))),
    Scores(4, 4, 4, 1.0, ((4,),)),
    Scores(4, 4, 4, 1.0),
    Scores(4, 4, 4, 1.0, ((2, 0), (0, 2)), ended=1),
    Scores(4, 4, 4, 1.0, ((2, 0), (0, 2)), exact=1),
]


@pytest.mark.parametrize("forged", FORGED)
def test_scores_that_contradict_themselves_are_refused(forged: Scores) -> None:
    check(Scores(4, 4, 4, 1.0, ((2, 0), (0, 2))), 2)
    with pytest.raises(Refusal) as caught:
        check(forged, 2)
    assert caught.value.code == "metrics.mismatch"


def test_a_causal_score_with_a_confusion_or_more_right_than_all_is_refused() -> None:
    for forged in (
        Scores(1, 1, 1, 0.0, ((1,),)),
        Scores(1, 2, 3, 0.0),
        Scores(2, 9, 9, 0.0, ended=3),
        Scores(9, 9, 2, 0.0, ended=3),
        Scores(9, 9, 9, 0.0, exact=3, ended=2),
    ):
        with pytest.raises(Refusal):
            check(forged, 0)


def test_the_order_of_sites_does_not_change_the_pooled_loss() -> None:
    parts = [Scores(1, 1, 0, random.Random(i).random() * 10**i) for i in range(12)]
    assert pool(parts).loss_sum == pool(parts[::-1]).loss_sum
