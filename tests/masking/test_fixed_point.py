"""Fixed point: no row of features, whatever it is, leaves the ring."""

import ast
import inspect
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from contracts.refusal import Refusal
from enclave.masking.fixed_point import (
    MAX_INNER,
    MAX_NORM,
    MIN_SIZE,
    bounded,
    quantise,
    scales,
)
from enclave.masking.residues import WIDTHS, Buffers
from enclave_host.preparing import quantising
from enclave_host.preparing.quantising import PARTS, fix_weight

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
rows_of_features = arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 40)), elements=finite)


@dataclass(frozen=True)
class Part:
    """One of a weight's parts: the columns [start, stop)."""

    start: int
    stop: int
    limbs: int
    most: int


def parts(weight, widths=WIDTHS):
    found, inner = quantising.parts(weight, widths), weight.shape[1]
    starts = range(0, inner, found.step)
    return [
        Part(at, min(at + found.step, inner), found.limbs, most)
        for at, most in zip(starts, found.most, strict=True)
    ]


def fixed(features, most):
    """Integers as int64, and scales."""
    integers, scale = quantise(torch.as_tensor(features).clone(), most, Buffers())
    return integers.long(), scale


def random_weight(outer, inner, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(-127, 128, (outer, inner), dtype=np.int8))


@settings(deadline=None, max_examples=50)
@given(rows_of_features, st.integers(1, 127), st.sampled_from(WIDTHS), st.integers(0, 2**32))
def test_no_features_and_no_weights_leave_the_ring(features, size, limbs, seed):
    """Against int64: any floats, subnormal and huge ones among them, and any weights."""
    weight = random_weight(5, features.shape[1], seed) % (size + 1)
    (part,) = parts(weight, (limbs,))
    integers, scale = fixed(features, part.most)
    assert int((integers**2).sum(1).max()) <= part.most
    assert (
        int((weight.long() ** 2).sum(1).max()) * part.most < 1 << 2 * (8 * limbs - 1) or part.most == 1 << 40
    )
    assert int((integers @ weight.long().t()).abs().max()) < 1 << 8 * limbs - 1
    assert scale.isfinite().all() and (scale > 0).all()


@settings(deadline=None, max_examples=50)
@given(rows_of_features, st.sampled_from(WIDTHS))
def test_the_worst_weights_for_these_very_integers_stay_in_the_ring(features, limbs):
    """Weights that point where the features point: Cauchy and Schwarz' inequality with little to spare."""
    direction = features.astype(np.float64) / max(float(np.abs(features).max()), 1e-300)
    weight = torch.from_numpy(np.round(127 * direction).astype(np.int8))
    (part,) = parts(weight, (limbs,))
    integers, _ = fixed(features, part.most)
    assert int((integers @ weight.long().t()).abs().max()) < 1 << 8 * limbs - 1


@settings(deadline=None, max_examples=50)
@given(rows_of_features.filter(lambda x: np.abs(x).max() > 1e-20))
def test_integers_are_near_their_features(features):
    integers, scale = fixed(features, 1 << 24)
    wide = features.astype(np.float64)
    kept = np.linalg.norm(wide, axis=1, keepdims=True) > 1e-30
    error = np.abs(integers.numpy() * scale.double().numpy() - wide)
    assert (error <= np.where(kept, 0.51 * scale.double().numpy() + np.abs(wide) * 1e-6, 1e-30)).all()


@settings(deadline=None, max_examples=50)
@given(
    arrays(
        np.int32, st.tuples(st.integers(1, 4), st.integers(1, 40)), elements=st.integers(-MAX_NORM, MAX_NORM)
    ),
    st.integers(14, 40),
)
def test_rows_that_miss_the_bound_are_rounded_again_within_it(integers, bits):
    """What the first rounding gave, whatever it is: the second one keeps the bound, and rows that had kept
    it."""
    most = max(1 << bits, math.ceil(MIN_SIZE**2 * integers.shape[1]))
    scale = torch.ones(len(integers), 1, dtype=torch.float64)
    again, scaled = bounded(torch.from_numpy(integers).float(), scale, most, Buffers())
    squares = (integers.astype(np.int64) ** 2).sum(1)
    assert int((again.long() ** 2).sum(1).max()) <= most
    kept = torch.from_numpy(squares <= most)
    assert torch.equal(again[kept], torch.from_numpy(integers)[kept]) and (scaled[kept] == 1).all()
    assert (scaled[~kept] >= 2).all()
    assert ((again * scaled).numpy() - integers <= scaled.numpy() / 2).all()


def test_a_row_that_misses_takes_the_same_steps_as_one_that_does_not():
    """Neither function branches on a number of a row, but to refuse what is not finite."""
    branches = (ast.If, ast.IfExp, ast.While, ast.For, ast.BoolOp, ast.comprehension, ast.Try)
    for function, allowed in ((bounded, 0), (quantise, 0), (scales, 1)):
        nodes = ast.walk(ast.parse(inspect.getsource(function)))
        assert sum(isinstance(node, branches) for node in nodes) == allowed
    for size in (1, 1000, MAX_NORM):
        again, _ = bounded(torch.full((3, 50), float(size)), torch.ones(3, 1).double(), 1 << 20, Buffers())
        assert int((again.long() ** 2).sum(1).max()) <= 1 << 20


def test_zero_and_subnormal_rows_are_small_integers_and_others_are_not_touched_by_them():
    features = torch.randn(4, 64)
    alone, _ = fixed(features[3:], 1 << 24)
    features[0], features[1], features[2] = 0.0, 1e-40, 3e38
    integers, scale = fixed(features, 1 << 24)
    assert (integers[0] == 0).all() and (integers[1] == 0).all()
    assert integers[2].unique().numel() == 1 and int(integers[2, 0]) > 400
    assert torch.equal(integers[3:], alone)
    assert torch.isfinite(scale).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_features_that_are_not_finite_are_refused(bad):
    features = torch.randn(3, 50)
    features[1, 49] = bad
    with pytest.raises(Refusal) as refused:
        quantise(features, 1 << 24, Buffers())
    assert refused.value.code == "training.diverged"


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 6), st.integers(1, 3000), st.integers(1, 127))
def test_every_part_allows_rows_of_the_stated_size(outer, inner, size):
    weight = torch.full((outer, inner), size, dtype=torch.int8)
    weight[:, ::2] *= -1
    found = parts(weight)
    assert [p.start for p in found] == [0, *[p.stop for p in found[:-1]]]
    assert found[-1].stop == inner and len({p.limbs for p in found}) == 1
    for piece in found:
        width = piece.stop - piece.start
        assert size**2 * width * piece.most < 1 << 2 * (8 * piece.limbs - 1)
        assert math.isqrt(piece.most) >= MIN_SIZE * math.sqrt(width)


def typical(outer, inner):
    """int8 weights as random initial ones have them."""
    weight = torch.randn(outer, inner, generator=torch.Generator().manual_seed(inner))
    return fix_weight([weight], outer).values


def test_the_width_follows_from_the_weights():
    assert [p.limbs for p in parts(typical(64, 384))] == [3]
    assert [p.limbs for p in parts(typical(64, 4096))] == [3]
    assert [(p.limbs, p.stop - p.start) for p in parts(typical(64, 14336))] == [(3, 3584)] * PARTS
    wide = parts(typical(8, 40_000))
    assert [p.limbs for p in wide] == [4] * len(wide) and all(p.stop - p.start <= MAX_INNER for p in wide)
    largest = torch.full((2, 6000), 127, dtype=torch.int8)
    assert [p.limbs for p in parts(largest)] == [4]
    assert {p.limbs for p in parts(largest[:, :1000])} == {3}


def test_rows_of_384_to_1024_numbers_keep_10_to_12_bits():
    for inner in (384, 1024):
        (part,) = parts(typical(256, inner))
        integers, _ = fixed(torch.randn(100, inner), part.most)
        bits = integers.abs().amax(1).double().log2() + 1
        assert part.limbs == 3 and bits.min() >= 9.8 and bits.max() <= 12.2


def test_weights_are_near_their_fixed_form_and_bad_ones_are_refused():
    weight = torch.randn(5, 7)
    weight[2] = 0
    fixed = fix_weight([weight], 5)
    assert torch.allclose(fixed.values * fixed.scale[:, None], weight, atol=float(fixed.scale.max()) / 1.9)
    with pytest.raises(Refusal) as refused:
        fix_weight([torch.full((2, 2), float("nan"))], 2)
    assert refused.value.code == "masking.bad_weight"


def test_weights_that_come_some_rows_at_a_time_have_the_same_fixed_form():
    weight = torch.randn(700, 7)
    whole, pieces = fix_weight((weight,), 700), fix_weight(weight.split(123), 700)
    assert torch.equal(whole.values, pieces.values) and torch.equal(whole.scale, pieces.scale)
