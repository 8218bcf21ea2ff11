"""Freivalds' check on lifted integers, of 24 and of 32 bits."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave.masking import integrity
from enclave.masking.fixed_point import MAX_NORM
from enclave.masking.residues import WIDTHS, Buffers

ROWS, INNER, OUTER = 5, 33, 21


def integers(shape, most, seed=1, dtype=torch.int32):
    return torch.randint(-most, most + 1, shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def multiplied(fixed, weight):
    return (fixed.long() @ weight.long().t()).to(torch.int32)


def lifted(number, limbs):
    """An integer as the enclave reads its residue: signed."""
    half = 1 << 8 * limbs - 1
    return (number + half) % (2 * half) - half


def holds(secret, fixed, exact):
    return secret.holds(secret.claimed(fixed, Buffers()).clone(), secret.answered(exact, Buffers()))


@pytest.fixture(scope="module", params=WIDTHS)
def case(request):
    weight = integers((OUTER, INNER), 127, dtype=torch.int8)
    fixed = integers((ROWS, INNER), 1500 if request.param == 3 else 15000)
    return request.param, weight, fixed, multiplied(fixed, weight)


@pytest.mark.parametrize("repetitions", [1, 3])
def test_the_right_product_always_holds(case, repetitions):
    limbs, weight, fixed, exact = case
    for _ in range(20):
        assert holds(integrity.draw(weight, limbs, repetitions), fixed, exact)


@pytest.mark.parametrize("limbs", WIDTHS)
def test_the_extremes_hold_and_the_least_error_beside_them_does_not(limbs):
    """The largest integers that a ring has, over more columns than one sum takes."""
    outer, half = integrity.CHUNK + 3, 1 << 8 * limbs - 1
    weight = torch.zeros(outer, 2, dtype=torch.int8)
    weight[:, 0], weight[:, 1] = 127, 126
    fixed = torch.tensor([[MAX_NORM, -MAX_NORM], [-MAX_NORM, MAX_NORM]], dtype=torch.int32)
    exact = multiplied(fixed, weight)
    secret = integrity.draw(weight, limbs, 1)
    assert holds(secret, fixed, exact)
    exact[0], exact[1] = half - 1, -half
    assert not holds(secret, fixed, exact)
    one = torch.ones(outer, 1, dtype=torch.int8)
    secret = integrity.draw(one, limbs, 2)
    for value in (half - 1, -half):  # exact sums: what the enclave would get of the largest answers
        reported = secret.answered(torch.full((1, outer), value, dtype=torch.int32), Buffers())
        assert secret.holds(secret.claimed(torch.ones(1, 1, dtype=torch.int32), Buffers()) * value, reported)
        reported[0, 0] += 1
        assert not secret.holds(
            secret.claimed(torch.ones(1, 1, dtype=torch.int32), Buffers()) * value, reported
        )


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from(WIDTHS),
    st.integers(0, ROWS - 1),
    st.integers(0, OUTER - 1),
    st.integers(1, (1 << 32) - 1),
)
def test_any_wrong_number_is_found(limbs, row, column, error):
    """Among them half the ring (invisible to one check in two over the ring itself) and small primes'
    multiples."""
    weight, fixed = integers((OUTER, INNER), 127, dtype=torch.int8), integers((ROWS, INNER), 1500)
    exact = multiplied(fixed, weight)
    error = 1 + error % ((1 << 8 * limbs) - 1)
    exact[row, column] = lifted(int(exact[row, column]) + error, limbs)
    assert not holds(integrity.draw(weight, limbs, 1), fixed, exact)


@pytest.mark.parametrize("error", [1 << 31, (1 << 31) - 1, (1 << 32) - 2, 1, 1 << 16, 1 << 23, (1 << 24) - 2])
def test_errors_made_for_other_checks_are_found(case, error):
    """Half a ring is made for a check over the ring, multiples of 2^31 − 1 for one modulo that prime."""
    limbs, weight, fixed, exact = case
    error %= 1 << 8 * limbs
    wrong = exact.clone()
    wrong[2, 7] = lifted(int(exact[2, 7]) + error, limbs)
    for _ in range(50):
        assert holds(integrity.draw(weight, limbs, 1), fixed, wrong) == (error == 0)


def test_the_digits_of_a_secret_are_the_secret():
    values = np.array([[0, 1, integrity.PRIME - 1, 1 << 60, 123456789012345678]], dtype=np.int64)
    for bits in (8, 16):
        digits = integrity._digits(values, bits).long().T
        for row, value in zip(digits.tolist(), values[0].tolist(), strict=True):
            assert sum(d << (bits * i) for i, d in enumerate(row)) == value
            assert all(abs(d) <= 1 << (bits - 1) for d in row)
        assert integrity._fold(digits.numpy(), bits).tolist() == (values[0] % integrity.PRIME).tolist()


def test_the_products_secret_is_the_weights_times_the_secret(case):
    limbs, weight, _, _ = case
    secret = integrity.draw(weight, limbs, 2)
    drawn, through = (
        integrity._fold(m.long().numpy().reshape(2, -1, m.shape[1]).transpose(0, 2, 1), secret.bits)
        for m in (secret.outer, secret.inner)
    )
    expected = drawn.astype(object) @ weight.numpy().astype(object) % integrity.PRIME
    assert (through == expected).all() and (drawn[0] != drawn[1]).any()


def test_secrets_differ_and_cover_wide_layers(case):
    limbs, weight, _, _ = case
    assert not torch.equal(integrity.draw(weight, limbs, 1).outer, integrity.draw(weight, limbs, 1).outer)
    wide = integers((integrity.CHUNK + 3, 5), 127, dtype=torch.int8)
    fixed = integers((3, 5), 2047)
    exact = multiplied(fixed, wide)
    secret = integrity.draw(wide, limbs, 1)
    assert holds(secret, fixed, exact)
    exact[1, integrity.CHUNK + 1] ^= 1
    assert not holds(secret, fixed, exact)


@pytest.mark.parametrize("limbs", WIDTHS)
@pytest.mark.parametrize(("outer", "inner"), [(1, 1), (1, 9), (9, 1), (integrity.CHUNK + 1, 1)])
def test_the_smallest_sides_hold_and_fail_too(outer, inner, limbs):
    weight, fixed = integers((outer, inner), 127, dtype=torch.int8), integers((2, inner), 2047)
    exact = multiplied(fixed, weight)
    secret = integrity.draw(weight, limbs, 1)
    assert holds(secret, fixed, exact)
    exact[1, -1] += 1
    assert not holds(secret, fixed, exact)
