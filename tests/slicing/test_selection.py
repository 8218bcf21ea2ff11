"""Which rows SPF takes: exact, the same everywhere, by whole units."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.architecture.layers import LayerPart, Linear, linears_of
from contracts.architecture.spf_size import count
from contracts.refusal import Refusal
from enclave.slicing.selection import choose, exact_norms
from tests.slicing.small import config

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def dense(units, inputs=1, size=1):
    return Linear("x", "dense", inputs, (LayerPart("rows", units, size),))


@pytest.mark.parametrize(
    ("ratio", "units", "expected"),
    [(12.5, 12, 2), (12.5, 4, 1), (25, 6, 2), (25, 2, 1), (62.5, 4, 3), (12.5, 20, 3), (1, 4, 1), (100, 7, 7),
     (0, 7, 0), (33.3, 500, 167), (0.7, 50, 1), (50, 1, 1)],
)  # fmt: skip
def test_a_share_is_rounded_half_up_and_is_at_least_one(ratio, units, expected):
    assert count(ratio, units) == expected


@given(st.decimals("0.01", "100", places=2), st.integers(1, 100_000))
def test_the_share_is_the_decimal_ratio_that_was_written(ratio, units):
    exact = (ratio * units / 100).quantize(Decimal(1), ROUND_HALF_UP)
    assert count(float(ratio), units) == max(1, int(exact))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40).flatmap(lambda n: st.lists(st.lists(FLOATS, min_size=n, max_size=n), min_size=1)))
def test_norms_are_exact(rows):
    norms = exact_norms(torch.tensor(rows, dtype=torch.float32))
    assert norms == [sum(Fraction(abs(value)) for value in row) * 2**149 for row in rows]


def test_a_difference_below_float_rounding_decides():
    weight = torch.ones(2, 1025)
    weight[1, -1] = 1 + 2**-23  # lost in a float32 sum of a thousand ones
    assert float(weight[0].sum()) == float(weight[1].sum())
    assert choose(weight, dense(2, 1025), 50, "largest", 0, "x").tolist() == [1]
    assert choose(weight, dense(2, 1025), 50, "smallest", 0, "x").tolist() == [0]


def test_ties_go_to_the_lower_index():
    weight = torch.tensor([[1.0], [-2.0], [2.0], [1.0], [2.0]])
    assert choose(weight, dense(5), 40, "largest", 0, "x").tolist() == [1, 2]
    assert choose(weight, dense(5), 20, "smallest", 0, "x").tolist() == [0]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_the_rows_taken_are_the_heaviest_units(data):
    units, size, inputs = (data.draw(st.integers(1, high)) for high in (9, 3, 4))
    ratio = data.draw(st.sampled_from((12.5, 25.0, 50.0, 62.5, 100.0)))
    values = data.draw(st.lists(FLOATS, min_size=units * size * inputs, max_size=units * size * inputs))
    weight = torch.tensor(values, dtype=torch.float32).view(units * size, inputs)
    rows = choose(weight, dense(units, inputs, size), ratio, "largest", 0, "x").tolist()
    assert rows == sorted(set(rows))
    taken = {row // size for row in rows}
    assert len(rows) == len(taken) * size and len(taken) == count(ratio, units)
    norm = [
        sum(Fraction(abs(v)) for v in values[u * size * inputs : (u + 1) * size * inputs])
        for u in range(units)
    ]
    rest = set(range(units)) - taken
    assert all((norm[t], -t) > (norm[r], -r) for t in taken for r in rest)


def test_norms_do_not_depend_on_the_order_of_the_columns():
    weight = torch.randn(6, 3001) * torch.logspace(-20, 3, 3001)
    assert exact_norms(weight) == exact_norms(weight[:, torch.randperm(3001)])


def test_a_fused_projection_is_chosen_from_as_three_separate_ones():
    fused = linears_of(config("gpt2"))[0]
    weight = torch.randn(fused.outputs, fused.inputs)
    weight[:24] *= 100  # Q alone would win if parts competed
    rows = choose(weight, fused, 25, "largest", 0, "x")
    separate = [
        start + choose(piece, Linear("x", "attention", 24, (part,)), 25, "largest", 0, "x")
        for start, piece, part in zip((0, 24, 48), weight.split(24), fused.parts, strict=True)
    ]
    assert rows.tolist() == torch.cat(separate).tolist()
    assert len(rows) == 3 * 6


def test_key_and_value_heads_are_taken_whole():
    _, key, value, *_ = linears_of(config("qwen3"))
    for linear in (key, value):
        assert (linear.parts[0].units, linear.parts[0].size) == (2, 10)
        rows = choose(torch.randn(20, 24), linear, 12.5, "largest", 0, "x").tolist()
        assert rows in (list(range(10)), list(range(10, 20)))


def test_random_depends_on_seed_and_layer_alone():
    weight = torch.randn(64, 3)
    first = choose(weight, dense(64, 3), 25, "random", 1, "layers.4.mlp").tolist()
    assert first == choose(weight * 0, dense(64, 3), 25, "random", 1, "layers.4.mlp").tolist()
    assert first != choose(weight, dense(64, 3), 25, "random", 2, "layers.4.mlp").tolist()
    assert first != choose(weight, dense(64, 3), 25, "random", 1, "layers.5.mlp").tolist()
    assert first[:4] == [1, 5, 6, 9]  # fixed for ever: auditors recompute it


def test_weights_that_are_no_numbers_or_of_another_shape_are_refused():
    bad = torch.ones(4, 1)
    bad[2] = float("nan")
    with pytest.raises(Refusal) as refused:
        choose(bad, dense(4), 25, "random", 0, "mlp")
    assert (refused.value.code, refused.value.facts) == ("spf.bad_weight", {"layer": "mlp"})
    with pytest.raises(Refusal) as refused:
        choose(torch.ones(4, 1), dense(5), 25, "largest", 0, "mlp")
    assert refused.value.code == "spf.unexpected_layer"
