"""Epsilon is what the literature's formulas and another library make of the same noise, and never less."""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import NormalDist

import pytest

from contracts.manifest import Privacy, Training
from contracts.receipts import NoisySteps, Spent
from contracts.refusal import Refusal
from privacy_accounting.epsilon import Gaussian, epsilon, planned, spent_so_far

TRAINING = Training(rounds=3, local_epochs=2, batch_size=8, learning_rate=0.01, seed=1)
SITE = Privacy("site", noise=1.1, delta=1e-5)
RECORD = Privacy("record", noise=0.9, delta=1e-5, gradient_clip=0.5)


def exact_delta(noise: float, steps: int, found: float) -> float:
    """Of `steps` Gaussian steps, which are one with noise / √steps (Balle and Wang, arXiv 1805.06530)."""
    mu, phi = math.sqrt(steps) / noise, NormalDist().cdf
    return phi(mu / 2 - found / mu) - math.exp(found) * phi(-mu / 2 - found / mu)


@pytest.mark.parametrize(("noise", "steps"), [(1.1, 1), (1.1, 5), (2.0, 40), (8.0, 100)])
def test_epsilon_of_unsampled_steps_is_never_below_the_exact_one_and_close_to_it(noise, steps) -> None:
    found = epsilon([Gaussian(noise, 1.0, steps)], 1e-5)
    assert exact_delta(noise, steps, found) <= 1e-5
    assert exact_delta(noise, steps, 0.85 * found) > 1e-5


@pytest.mark.parametrize(
    ("noise", "rate", "steps", "theirs"),
    [(1.0, 0.1, 100, 7.8993), (2.0, 0.3, 20, 3.7421), (1.0, 0.01, 10_000, 6.7127)],
)
def test_epsilon_of_sampled_steps_is_that_of_opacus(noise, rate, steps, theirs) -> None:
    """Computed once by the RDP accountant of opacus 1.6.0."""
    assert epsilon([Gaussian(noise, rate, steps)], 1e-5) == pytest.approx(theirs, rel=1e-3)


def test_runs_are_composed_and_not_added_up() -> None:
    once, twice = [Gaussian(1.1, 1.0, 3)], [Gaussian(1.1, 1.0, 3), Gaussian(1.1, 1.0, 3)]
    assert epsilon(twice, 1e-5) == pytest.approx(epsilon([Gaussian(1.1, 1.0, 6)], 1e-5))
    assert epsilon(once, 1e-5) < epsilon(twice, 1e-5) < 2 * epsilon(once, 1e-5)
    assert epsilon([], 1e-5) == 0


def test_a_plan_per_site_is_one_step_a_round_and_per_record_all_steps_of_all_rounds() -> None:
    assert planned(SITE, TRAINING, rows=500) == [Gaussian(1.1, 1.0, 3)]
    assert planned(RECORD, TRAINING, rows=500) == [Gaussian(0.9, 8 / 500, 3 * 2 * 63)]
    assert planned(RECORD, TRAINING, rows=5) == [Gaussian(0.9, 1.0, 3 * 2)]
    assert planned(None, TRAINING, rows=5) == []


def test_a_receipt_comes_to_the_epsilon_of_the_site_where_it_is_worst() -> None:
    steps = (NoisySteps("anna", 0.1, 60), NoisySteps("berta", 0.02, 60), NoisySteps("berta", 0.05, 20))
    spent = Spent("record", "poisson-sampled-gaussian", 1.0, 1e-5, 3, steps)
    anna = epsilon([Gaussian(1.0, 0.1, 60)], 1e-5)
    berta = epsilon([Gaussian(1.0, 0.02, 60), Gaussian(1.0, 0.05, 20)], 1e-5)
    assert spent_so_far(spent) == anna > berta


def test_epsilon_grows_with_rounds_and_falls_with_noise() -> None:
    growing = [epsilon([Gaussian(1.1, 1.0, rounds)], 1e-5) for rounds in (1, 2, 4, 8)]
    assert all(left < right for left, right in pairwise(growing))
    assert epsilon([Gaussian(4.0, 1.0, 8)], 1e-5) < growing[-1]


def test_noise_that_the_accountant_cannot_tell_is_a_refusal() -> None:
    with pytest.raises(Refusal) as caught:
        epsilon([Gaussian(0.0, 1.0, 1)], 1e-5)
    assert caught.value.code == "privacy.no_account"
