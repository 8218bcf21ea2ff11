"""Which scores leave a server enclave, and what could be computed from them."""

import itertools
import math

import pytest

from contracts.approvals import Approval
from contracts.manifest import Publication
from contracts.receipts import Scoring
from enclave.programs import publication
from enclave.programs.publication import grain, rounded
from enclave.training import rates
from enclave.training.metrics import Scores

RULES = Publication(sites=3, rows=20)


def scores(truth, right=None) -> Scores:
    """Of a classifier: `truth` rows of each label, of which so many are right; the rest goes to the next."""
    right = truth if right is None else right
    labels = len(truth)
    confusion = [[0] * labels for _ in truth]
    for label, (rows, hits) in enumerate(zip(truth, right, strict=True)):
        confusion[label][label] = hits
        confusion[label][(label + 1) % labels] = rows - hits
    rows = sum(truth)
    return Scores(rows, rows, sum(right), 0.5 * rows, tuple(map(tuple, confusion)))


def publish(rules, reported, fixed, known=None, coded=None):
    """Where each hospital has confirmed all others that are scored, or those `known` to it."""
    known = known or dict.fromkeys(reported, tuple(reported))
    approvals = {site: Approval(known[site], "") for site in known}
    return publication.publish(rules, reported, fixed, approvals, coded)


def of(*sites, truth=(10, 10)):
    return {site: scores(truth) for site in sites}


def test_scores_of_fewer_than_three_sites_are_told_to_nobody():
    for few in ((), ("a",), ("a", "b")):
        found = publish(RULES, of(*few), ())
        assert (found.numbers, found.scoring) == ({}, Scoring((), "too_few_sites"))
    assert publish(RULES, of("a", "b", "c"), ()).scoring == Scoring(("a", "b", "c"), None)


def test_a_site_without_evaluation_rows_does_not_count():
    assert publish(RULES, of("a", "b") | of("c", truth=(0, 0)), ()).scoring.withheld == "too_few_sites"


def test_scores_of_too_few_rows_are_told_to_nobody():
    assert publish(RULES, of("a", "b", "c", truth=(3, 3)), ()).scoring == Scoring((), "too_few_rows")


@pytest.mark.parametrize("sites", [("a", "b", "c"), ("a", "b", "c", "d", "e"), ("b", "c", "d", "e")])
def test_two_pools_that_differ_by_a_site_cannot_be_subtracted(sites):
    """The first pool fixes its set; from then on every other set is told nothing of."""
    fixed = ("a", "b", "c", "d")
    found = publish(RULES, of(*sites), fixed)
    assert (found.numbers, found.scoring) == ({}, Scoring(fixed, "another_set"))
    assert publish(RULES, of(*fixed), fixed).numbers


@pytest.mark.parametrize("rows", [20, 24, 60, 100, 333, 2500, 10_000, 1_000_000])
def test_a_step_is_no_finer_than_the_standard_error_of_so_many_rows(rows):
    error = 1 / (2 * math.sqrt(rows))
    assert error <= grain(rows) < 2.51 * error
    assert grain(2500) == pytest.approx(0.01)


ROWS, TRUE = 60, (17, 43)
ROUNDS = ((9, 40), (11, 35), (15, 38), (16, 42))
"""Of a pool of two labels: the true counts, and how many of each were right in four rounds."""


def explanations(reported) -> list[int]:
    """The attack of issue 11: which counts of the first label explain every round's numbers?"""
    seen = [reported(scores(TRUE, right)) for right in ROUNDS]
    possible = []
    for first in range(10, ROWS - 9):
        truth = (first, ROWS - first)
        answers = {reported(scores(truth, (a, b))) for a in range(truth[0] + 1) for b in range(truth[1] + 1)}
        if all(answer in answers for answer in seen):
            possible.append(first)
    return possible


def test_exact_scores_of_four_rounds_give_label_counts_away():
    found = explanations(lambda pooled: (rates.accuracy(pooled), rates.macro_f1(pooled)))
    assert TRUE[0] in found and len(found) <= 6


def test_label_counts_cannot_be_recovered_from_four_rounds_of_published_scores():
    def reported(pooled: Scores):
        numbers = rounded(pooled, [pooled])
        return numbers["accuracy"], numbers["macro_f1"]

    # 41 counts leave ten rows for each label; most of them explain what was told.
    assert len(explanations(reported)) >= 25


def test_macro_f1_is_withheld_where_a_label_is_rare():
    rare = dict(zip("abc", [scores((20, 3)), scores((20, 3)), scores((20, 3))], strict=True))
    assert "macro_f1" not in publish(RULES, rare, ()).numbers
    assert "macro_f1" in publish(RULES, of("a", "b", "c"), ()).numbers


def test_a_model_that_diverged_has_no_loss_and_no_perplexity():
    bad = Scores(10, 10, 1, math.inf, ((1, 9), (0, 0)))
    assert "loss" not in publish(RULES, dict.fromkeys("abc", bad), ()).numbers
    huge = Scores(10, 100, 1, 1e5)
    assert "perplexity" not in publish(RULES, dict.fromkeys("abc", huge), ()).numbers


def test_exact_matches_and_stops_are_told_to_the_step_of_the_rows_not_of_the_tokens():
    each = Scores(30, 900, 700, 400.0, (), 11, 27)
    numbers = publish(RULES, dict.fromkeys("abc", each), ()).numbers
    assert grain(90) == pytest.approx(0.1)
    assert (numbers["exact_match"], numbers["stop_rate"], numbers["token_accuracy"]) == (0.4, 0.9, 0.8)


def test_numbers_are_multiples_of_the_step():
    for rows, right in itertools.product((8, 40, 111), (0.1, 0.5, 0.77)):
        hits = round(rows * right)
        each = scores((rows, rows), (hits, hits))
        numbers = publish(RULES, dict.fromkeys("abc", each), ()).numbers
        times = numbers["accuracy"] / grain(6 * rows)
        assert times == pytest.approx(round(times))


@pytest.mark.parametrize(("rows", "bits"), [(24, 7.3), (10_000, 17.6)])
def test_a_round_tells_a_few_bits_about_the_parameters(rows, bits):
    """All that a host learns in a round: the figure of docs/threat-model.md, for losses up to 5 nats."""
    size = grain(rows)
    accuracies, losses = round(1 / size) + 1, round(5 / size) + 1
    assert math.log2(accuracies * losses) == pytest.approx(bits, abs=0.05)
