"""Noise has the deviation that is claimed, and DP-SGD draws and clips single records exactly."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch

from contracts.manifest import Privacy, Training
from contracts.privacy import rate
from contracts.progress import Progress
from enclave.slicing.adapters import adapt, tuned_parameters
from enclave.slicing.models import load
from enclave.training.data import collate
from enclave.training.loop import batch_logits, batch_loss
from enclave.training.noise import Words, gaussian, normal_quantile, secret_words, site_deviation
from enclave.training.private import clipped_sum, draw, train_privately
from enclave.training.row_reader import encode
from tests.training.tiny import BERT_ADAPTER, ROWS, classifier_spec

TRAINING = Training(rounds=3, local_epochs=2, batch_size=8, learning_rate=0.01, seed=1)
RECORD = Privacy("record", noise=0.9, delta=1e-5, gradient_clip=0.5)


def test_the_noise_is_normal_with_the_deviation_that_is_claimed() -> None:
    noise = gaussian((200, 1000), 2.5)
    assert noise.shape == (200, 1000)
    assert noise.mean() == pytest.approx(0, abs=0.03)
    assert noise.std() == pytest.approx(2.5, rel=0.01)
    for deviations, share in ((1, 0.6827), (2, 0.9545), (3, 0.9973)):
        inside = (np.abs(noise) < deviations * 2.5).mean()
        assert inside == pytest.approx(share, abs=0.005)


def test_the_noise_is_never_the_same_and_takes_nothing_from_torchs_seed() -> None:
    torch.manual_seed(3)
    first, state = gaussian((100,), 1.0), torch.get_rng_state()
    torch.manual_seed(3)
    second = gaussian((100,), 1.0)
    assert not np.array_equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("word", [0, -1, 2**63 - 1, -(2**63)])
def test_the_extreme_words_of_the_keystream_give_finite_noise(word: int) -> None:
    assert np.isfinite(gaussian((3,), 1.0, lambda count: np.full(count, word))).all()


def fixed_words(seed: int) -> Words:
    """The same words in each run, so that a test of a distribution decides the same way each time."""
    draw = np.random.default_rng(seed)
    return lambda count: draw.integers(-(2**63), 2**63, count, np.int64)


def largest_gap_to_the_normal(sample: np.ndarray) -> float:
    """Kolmogorov and Smirnov's statistic."""
    theirs = np.array([NormalDist().cdf(value) for value in np.sort(sample)])
    steps = np.arange(len(sample) + 1) / len(sample)
    return float(max((theirs - steps[:-1]).max(), (steps[1:] - theirs).max()))


def test_the_noise_of_fixed_words_passes_kolmogorov_and_smirnov_and_has_the_normal_moments() -> None:
    noise = gaussian((200_000,), 3.0, fixed_words(1000)) / 3.0
    assert largest_gap_to_the_normal(noise) < 1.63 / math.sqrt(len(noise))  # passed by 99 % of normal samples
    expected = {1: (0, 0.01), 2: (1, 0.02), 3: (0, 0.05), 4: (3, 0.15), 6: (15, 2)}
    for power, (moment, room) in expected.items():
        assert np.mean(noise**power) == pytest.approx(moment, abs=room)
    wider = gaussian((200_000,), 3.1, fixed_words(1000)) / 3.0
    assert largest_gap_to_the_normal(wider) > 1.95 / math.sqrt(len(wider))  # passed by 0.1 %


def test_the_quantile_function_is_that_of_the_standard_library_far_into_the_tails() -> None:
    draw = np.random.default_rng(5)
    tails = 10.0 ** -draw.uniform(0.3, 15.9, 2000)
    p = np.concatenate([draw.uniform(1e-9, 1 - 1e-9, 4000), tails, 1 - tails, [2.0**-53, 1 - 2.0**-53]])
    wanted = [NormalDist().inv_cdf(each) for each in p]
    assert normal_quantile(p) == pytest.approx(wanted, rel=1e-14, abs=1e-15)


def test_the_keystream_is_uniform() -> None:
    words = secret_words(100_000)
    for bit in range(64):
        assert ((words >> bit) & 1).mean() == pytest.approx(0.5, abs=0.01)


def test_the_noise_on_a_mean_covers_the_largest_weight() -> None:
    """One site's change moves the mean by clip · weight / sum at most."""
    assert site_deviation(2.0, 3.0, [1, 1, 2]) == 2.0 * 3.0 * 2 / 4
    assert site_deviation(1.0, 1.0, [7]) == 1.0


@pytest.mark.parametrize(("rows", "expected"), [(4, 1.0), (8, 1.0), (80, 0.1)])
def test_a_step_draws_batch_size_rows_on_average(rows: int, expected: float) -> None:
    assert rate(rows, TRAINING) == expected


def test_rows_are_drawn_apart_from_each_other_and_secretly() -> None:
    counts = torch.tensor([len(draw(100, 0.2)) for _ in range(2000)], dtype=torch.float64)
    assert counts.mean().item() == pytest.approx(20, abs=0.5)
    assert counts.var().item() == pytest.approx(16, rel=0.15)  # binomial: 100 · 0.2 · 0.8
    torch.manual_seed(0)
    first = draw(1000, 0.5)
    torch.manual_seed(0)
    assert draw(1000, 0.5) != first
    assert draw(7, 1.0) == list(range(7))


@pytest.fixture
def tuned_bert(bert_folder):
    """A tiny BERT with LoRA, moved off its initial values so that every tensor has a gradient; its rows."""
    spec = classifier_spec(bert_folder)
    base, tokenizer = load(bert_folder, spec)
    model = adapt(base, BERT_ADAPTER, seed=1)
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in tuned_parameters(model).values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
    return model, encode(ROWS, tokenizer, spec)


@pytest.mark.parametrize("bound", [1e-3, 0.3, 1e6])
def test_the_sum_of_clipped_gradients_is_that_of_torch_for_single_rows(tuned_bert, bound) -> None:
    model, examples = tuned_bert
    parameters, indices = list(tuned_parameters(model).values()), [0, 2, 3, 5, 7]
    ours, loss = clipped_sum(model, parameters, examples, indices, bound)

    here, expected = torch.device("cpu"), 0.0
    theirs = [torch.zeros_like(parameter, dtype=torch.float64) for parameter in parameters]
    for index in indices:
        model.zero_grad()
        batch = collate(examples, [index])
        single = batch_loss(batch_logits(model, batch, here), batch)[0]
        single.backward()
        torch.nn.utils.clip_grad_norm_(parameters, bound)
        for total, parameter in zip(theirs, parameters, strict=True):
            total += parameter.grad
        expected += single.item()
    model.zero_grad()
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, other, rtol=1e-4, atol=1e-7)
    norm = torch.cat([total.flatten() for total in ours]).norm()
    assert float(norm) <= len(indices) * bound
    assert loss == pytest.approx(expected, rel=1e-5)


def test_private_training_learns_and_never_gives_the_same_parameters_twice(tuned_bert) -> None:
    model, examples = tuned_bert
    start = {name: parameter.detach().clone() for name, parameter in tuned_parameters(model).items()}
    ends = []
    for _ in range(2):
        with torch.no_grad():
            for name, parameter in tuned_parameters(model).items():
                parameter.copy_(start[name])
        reported = []
        result = train_privately(model, examples, TRAINING, RECORD, progress=reported.append)
        ends.append({name: p.detach().clone() for name, p in tuned_parameters(model).items()})
        assert result.samples == len(examples)
        assert reported[-1].done == reported[-1].of == 2 * len(examples)
    assert any(not torch.equal(ends[0][name], ends[1][name]) for name in start)
    assert all(not torch.equal(ends[0][name], start[name]) for name in start)


def test_the_speed_that_the_host_is_told_is_of_all_rows_and_never_of_those_drawn(
    tuned_bert, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sizes of secret draws could otherwise be computed from it: they stay in the enclave."""
    model, examples = tuned_bert
    reported: list[Progress] = []
    clock = iter(range(10_000))
    monkeypatch.setattr("enclave.training.private.time.monotonic", lambda: next(clock))
    monkeypatch.setattr("enclave.training.private.draw", lambda rows, probability: [0])
    train_privately(model, examples, TRAINING, RECORD, progress=reported.append)
    assert [round(each.rows_per_second * n) for n, each in enumerate(reported, 1)] == [
        each.done for each in reported
    ]
