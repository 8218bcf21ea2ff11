"""The server's optimisers are the formulas of their papers, number by number."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from contracts.manifest import ServerOptimizer
from enclave.training.aggregate import State
from enclave.training.server_step import server_step
from enclave.training.tensors import FIRST, SECOND

RATES = some.floats(0.01, 2), some.floats(0, 0.95), some.floats(0, 0.999), some.floats(1e-4, 0.1)
NUMBERS = some.lists(some.floats(-2, 2, width=32), min_size=3, max_size=3)
ROUNDS = some.lists(NUMBERS, min_size=1, max_size=6)


def run(optimizer: ServerOptimizer, means: list[list[float]]) -> list[list[float]]:
    """The parameters after each round, of one tensor that begins with 1, 2, 3."""
    state: State = {"w": np.array([1.0, 2.0, 3.0], np.float32)}
    moments: State = {}
    found = []
    for mean in means:
        state, moments = server_step(optimizer, state, {"w": np.array(mean)}, moments)
        found.append([float(number) for number in state["w"]])
        assert all(tensor.dtype == np.float32 for tensor in moments.values())
    return found


def papers(optimizer: ServerOptimizer, means: list[list[float]]) -> list[list[float]]:
    """The same in plain numbers, as Hsu et al. and Reddi et al. write it."""
    eta, b1, b2, tau = optimizer.learning_rate, optimizer.beta1, optimizer.beta2, optimizer.tau
    x, m, v, found = [1.0, 2.0, 3.0], [0.0] * 3, [(tau or 0) ** 2] * 3, []
    for mean in means:
        for i in range(3):
            d = mean[i] - x[i]
            if b2 is None or tau is None:
                m[i] = b1 * m[i] + d
                x[i] += eta * m[i]
                continue
            m[i] = b1 * m[i] + (1 - b1) * d
            if optimizer.kind == "fedadam":
                v[i] = b2 * v[i] + (1 - b2) * d * d
            else:
                v[i] -= (1 - b2) * d * d * ((v[i] > d * d) - (v[i] < d * d))
            x[i] += eta * m[i] / (math.sqrt(v[i]) + tau)
        found.append(list(x))
    return found


@settings(max_examples=60, deadline=None)
@given(some.sampled_from(["fedavgm", "fedadam", "fedyogi"]), some.tuples(*RATES), ROUNDS)
def test_a_servers_step_is_its_papers_formula(kind: Any, rates: tuple[float, ...], means: Any) -> None:
    eta, beta1, beta2, tau = rates
    adapts = kind != "fedavgm"
    optimizer = ServerOptimizer(kind, eta, beta1, beta2 if adapts else None, tau if adapts else None)
    # Yogi's sign jumps where v and Δ² meet: there the last bit of a float32 decides.
    found, expected = run(optimizer, means), papers(optimizer, means)
    if kind != "fedyogi":
        assert np.allclose(found, expected, rtol=2e-3, atol=2e-3)
    assert np.allclose(found[0], expected[0], rtol=1e-4, atol=1e-4)


def test_yogi_is_its_formula_where_no_last_bit_decides() -> None:
    optimizer = ServerOptimizer("fedyogi", 0.1, 0.5, 0.9, 1e-2)
    means = [[1.5, 1.0, 3.2], [1.2, 2.5, 2.0], [1.1, 2.1, 3.4], [0.2, 2.0, 3.0]]
    assert np.allclose(run(optimizer, means), papers(optimizer, means), rtol=1e-5)
    adam = ServerOptimizer("fedadam", 0.1, 0.5, 0.9, 1e-2)
    assert not np.allclose(run(optimizer, means)[-1], run(adam, means)[-1], rtol=1e-3)


def test_momentum_of_none_at_a_rate_of_one_is_federated_averaging() -> None:
    means = [[0.5, 1.25, -3.0], [0.25, 1.5, 2.0]]
    assert run(ServerOptimizer("fedavgm", 1.0, 0.0), means) == means


def test_moments_are_kept_by_name_and_begin_with_nothing_and_tau_squared() -> None:
    start: State = {"a": np.zeros((2, 3), np.float32), "b": np.ones(4, np.float32)}
    _, moments = server_step(ServerOptimizer("fedadam", 0.1, 0.9, 0.99, 0.5), start, start, {})
    assert set(moments) == {FIRST + "a", FIRST + "b", SECOND + "a", SECOND + "b"}
    assert not moments[FIRST + "a"].any()
    assert np.allclose(moments[SECOND + "b"], 0.99 * 0.25)
    assert set(server_step(ServerOptimizer("fedavgm", 0.1, 0.9), start, start, {})[1]) == {
        FIRST + "a",
        FIRST + "b",
    }


@pytest.mark.parametrize("kind", ["fedadam", "fedyogi"])
def test_a_step_that_adapts_is_as_long_for_small_changes_as_for_large_ones(kind: Any) -> None:
    optimizer = ServerOptimizer(kind, 0.1, 0.0, 0.0, 1e-9)
    (found,) = run(optimizer, [[1.001, 2.1, 13.0]])
    assert np.allclose(np.subtract(found, [1, 2, 3]), 0.1, rtol=1e-3)


def test_momentum_goes_on_where_changes_point_one_way() -> None:
    steps = run(ServerOptimizer("fedavgm", 0.1, 0.9), [[9.0, 9.0, 9.0]] * 4)
    lengths = [after[0] - before[0] for before, after in pairwise([[1.0], *steps])]
    assert lengths == sorted(lengths)
