"""FedAvg is the weighted mean, exactly and in a fixed order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.fedavg import fedavg
from contracts.refusal import Refusal


def array(values: list[float]) -> np.ndarray:
    return np.array(values, np.float32)


def ones(size: int) -> np.ndarray:
    return np.ones(size, np.float32)


def test_the_mean_is_weighted_by_samples() -> None:
    mean = fedavg([(1, {"w": array([0.0, 4.0])}), (3, {"w": array([4.0, 0.0])})])
    assert mean["w"].tolist() == [3.0, 1.0]
    assert mean["w"].dtype == np.float32


@settings(deadline=None)
@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=8))
def test_equal_updates_average_to_themselves_whatever_their_weights(samples: list[int]) -> None:
    state = {"w": array([0.1, -3e-30, 7e20, 1.1754944e-38])}
    assert np.array_equal(fedavg([(n, state) for n in samples])["w"], state["w"])


def test_small_updates_are_not_lost_beside_large_ones() -> None:
    """In float32 the sum 1e8 + 1 - 1e8 is 0."""
    updates = [(1, {"w": array([value])}) for value in (1e8, 1.0, -1e8)]
    assert fedavg(updates)["w"].item() == pytest.approx(1 / 3)


def test_the_updates_are_left_as_they_were() -> None:
    first, second = ones(3), np.zeros(3, np.float32)
    fedavg([(1, {"w": first}), (1, {"w": second})])
    assert first.tolist() == [1, 1, 1]
    assert second.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("updates", "code"),
    [
        ([], "aggregate.nothing"),
        ([(0, {"w": ones(1)})], "aggregate.samples"),
        ([(5, {"w": ones(1)}), (-1, {"w": ones(1)})], "aggregate.samples"),
        ([(1 << 50, {"w": ones(1)})], "aggregate.samples"),
        ([(1, {"w": ones(1)}), (1, {"v": ones(1)})], "tensors.names"),
        (
            [
                (1, {"w": ones(1)}),
                (1, {"w": ones(1), "v": ones(1)}),
            ],
            "tensors.names",
        ),
        ([(1, {"w": ones(2)}), (1, {"w": ones(1)})], "tensors.shape"),
    ],
)
def test_what_cannot_be_averaged_is_refused(updates: list, code: str) -> None:
    with pytest.raises(Refusal) as caught:
        fedavg(updates)
    assert caught.value.code == code
