"""Ring arithmetic: limbs, words, fixed point, bounds."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.refusal import Refusal
from enclave.masking.fixed_point import MAX_BITS, MAX_SUM, MIN_BITS, fix, fix_weight, limit, part
from enclave.masking.ring import Buffers, Limbs, from_words, reference, to_words

residues = st.integers(-(1 << 31), (1 << 31) - 1)
shapes = st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 7))


def integers(shape, seed, low, high, dtype):
    return torch.from_numpy(np.random.default_rng(seed).integers(low, high, shape, dtype=np.int64)).to(dtype)


@given(st.lists(residues, min_size=1, max_size=8))
def test_words_and_residues_are_two_spellings_of_one_thing(values):
    tensor = torch.tensor(values, dtype=torch.int32)
    words = to_words(tensor)
    assert torch.equal(from_words(words), tensor)
    digits = words.view(torch.int8).view(-1, 4).long()
    meant = (digits * torch.tensor([1, 256, 65536, 1 << 24])).sum(1)
    assert torch.equal(meant.to(torch.int32), tensor)


@settings(deadline=None)
@given(shapes, st.integers(0, 2**32))
def test_limbs_equal_python_integers_and_the_float64_reference(shape, seed):
    rows, inner, outer = shape
    values = integers((rows, inner), seed, -(1 << 31), 1 << 31, torch.int32)
    weight = integers((outer, inner), seed + 1, -127, 128, torch.int8)
    expected = values.long() @ weight.long().t()
    got = Limbs().multiply(to_words(values), weight)
    assert torch.equal(got, expected.to(torch.int32))
    assert torch.equal(got, reference(to_words(values), weight))


def test_the_extremes_multiply_without_loss():
    values = torch.tensor([[-(1 << 31)] * 4096, [(1 << 31) - 1] * 4096], dtype=torch.int32)
    for number in (-127, 127):
        weight = torch.full((3, 4096), number, dtype=torch.int8)
        expected = (values.long() @ weight.long().t()).to(torch.int32)
        assert torch.equal(Limbs().multiply(to_words(values), weight), expected)
        assert torch.equal(reference(to_words(values), weight), expected)


def test_a_reused_buffer_does_not_leak_into_a_smaller_product():
    limbs, weight = Limbs(), integers((6, 8), 1, -127, 128, torch.int8)
    large, small = (integers((n, 8), n, -(1 << 31), 1 << 31, torch.int32) for n in (9, 2))
    limbs.multiply(to_words(large), weight)
    assert torch.equal(limbs.multiply(to_words(small), weight), reference(to_words(small), weight))
    buffers = Buffers()
    assert (
        buffers.take("a", (4, 4), torch.int32).data_ptr() == buffers.take("a", (2, 3), torch.int32).data_ptr()
    )


@settings(deadline=None)
@given(st.integers(MIN_BITS, MAX_BITS), st.integers(1, 4), st.integers(1, 6), st.integers(0, 2**32))
def test_fixed_features_stay_within_their_bits_and_near_their_values(bits, rows, inner, seed):
    torch.manual_seed(seed % 2**31)
    features = torch.randn(rows, inner) * 10 ** float(torch.randint(-6, 6, ()))
    fixed, scale = fix(features, bits)
    assert int(fixed.abs().max()) <= limit(bits)
    assert torch.allclose(fixed * scale, features, atol=float(scale.max()) * 0.51)


def test_features_that_are_not_finite_are_refused():
    for bad in (float("nan"), float("inf")):
        with pytest.raises(Refusal) as refused:
            fix(torch.tensor([[1.0, bad]]), 12)
        assert refused.value.code == "training.diverged"
    assert int(fix(torch.zeros(2, 3), 16)[0].abs().max()) == 0


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 6), st.integers(1, 3000), st.integers(1, 127))
def test_no_features_overflow_a_part(outer, inner, size):
    """The worst features there are, all at their limit with the weights' signs, stay below the bound."""
    weight = torch.full((outer, inner), size, dtype=torch.int8)
    weight[:, ::2] *= -1
    parts = part(weight)
    assert [p.start for p in parts] == [0, *[p.stop for p in parts[:-1]]]
    assert parts[-1].stop == inner
    for piece in parts:
        worst = int(weight[:, piece.start : piece.stop].long().abs().sum(1).max()) * limit(piece.bits)
        assert worst == piece.bound < MAX_SUM
        assert MIN_BITS <= piece.bits <= MAX_BITS


def test_a_wide_inner_dimension_is_split_and_a_narrow_one_keeps_all_bits():
    wide = part(torch.full((2, 100_000), 127, dtype=torch.int8))
    assert len(wide) > 8 and all(p.bits >= MIN_BITS for p in wide)
    assert [(p.bits, p.stop) for p in part(torch.full((2, 64), 127, dtype=torch.int8))] == [(16, 64)]


def test_weights_are_near_their_fixed_form_and_bad_ones_are_refused():
    weight = torch.randn(5, 7)
    weight[2] = 0
    fixed = fix_weight((weight,), 5)
    assert torch.allclose(fixed.values * fixed.scale[:, None], weight, atol=float(fixed.scale.max()) / 1.9)
    with pytest.raises(Refusal) as refused:
        fix_weight((torch.full((2, 2), float("nan")),), 2)
    assert refused.value.code == "masking.bad_weight"


def test_weights_that_come_some_rows_at_a_time_have_the_same_fixed_form():
    weight = torch.randn(700, 7)
    whole, pieces = fix_weight((weight,), 700), fix_weight(weight.split(123), 700)
    assert torch.equal(whole.values, pieces.values) and torch.equal(whole.scale, pieces.scale)


def test_the_limits_fit_their_bits_and_two_signed_digits():
    assert [limit(bits) for bits in (12, 13, 14, 15, 16)] == [2047, 4095, 8191, 16383, 127 * 256 + 127]
    fixed, _ = fix(torch.tensor([[1.0, -1.0, 0.5]]), 16)
    assert fixed.tolist() == [[32639, -32639, 16320]]
