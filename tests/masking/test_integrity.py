"""Freivalds' check on lifted integers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave.masking import integrity
from enclave.masking.fixed_point import limit

ROWS, INNER, OUTER = 5, 33, 21


@pytest.fixture(scope="module")
def case():
    generator = torch.Generator().manual_seed(1)
    weight = torch.randint(-127, 128, (OUTER, INNER), generator=generator, dtype=torch.int8)
    fixed = torch.randint(-limit(16), limit(16) + 1, (ROWS, INNER), generator=generator, dtype=torch.int32)
    exact = (fixed.long() @ weight.long().t()).to(torch.int32)
    return weight, fixed, exact


@pytest.mark.parametrize("repetitions", [1, 3])
def test_the_right_product_always_holds(case, repetitions):
    weight, fixed, exact = case
    for _ in range(20):
        assert integrity.holds(integrity.draw(weight, repetitions), fixed, exact)


def test_the_extremes_hold():
    weight = torch.full((3, 50), 127, dtype=torch.int8)
    fixed = torch.full((2, 50), limit(16), dtype=torch.int32)
    fixed[1] *= -1
    exact = (fixed.long() @ weight.long().t()).to(torch.int32)
    assert integrity.holds(integrity.draw(weight, 1), fixed, exact)


@settings(deadline=None, max_examples=200)
@given(row=st.integers(0, ROWS - 1), column=st.integers(0, OUTER - 1), error=st.integers(1, (1 << 32) - 1))
def test_any_wrong_number_is_found(case, row, column, error):
    """Among them 2^31 (invisible to one check in two over Z/2^32) and multiples of small primes."""
    weight, fixed, exact = case
    wrong = exact.clone()
    wrong[row, column] = torch.tensor(int(exact[row, column]) + error).to(torch.int32)
    assert not integrity.holds(integrity.draw(weight, 1), fixed, wrong)


@pytest.mark.parametrize("error", [1 << 31, (1 << 31) - 1, (1 << 32) - 2, 1, 1 << 16])
def test_errors_made_for_other_checks_are_found(case, error):
    """2^31·eᵢ is made for a check over Z/2^32, multiples of 2^31 − 1 for one modulo that prime."""
    weight, fixed, exact = case
    wrong = exact.clone()
    wrong[2, 7] = torch.tensor(int(exact[2, 7]) + error).to(torch.int32)
    for _ in range(50):
        assert not integrity.holds(integrity.draw(weight, 1), fixed, wrong)


def test_the_digits_of_a_secret_are_the_secret():
    values = np.array([[0, 1, integrity.PRIME - 1, 1 << 60, 123456789012345678]], dtype=np.int64)
    digits = integrity._digits(values).astype(object)
    assert [(sum(int(d) << (8 * i) for i, d in enumerate(row))) for row in digits[0]] == values[0].tolist()
    folded = integrity._fold(integrity._digits(values).astype(np.int64))
    assert folded.tolist() == (values % integrity.PRIME).tolist()


def test_secrets_differ_and_cover_wide_layers(case):
    weight = case[0]
    assert not torch.equal(integrity.draw(weight, 1).outer, integrity.draw(weight, 1).outer)
    wide = torch.randint(-127, 128, (integrity.CHUNK + 3, 5), dtype=torch.int8)
    fixed = torch.randint(-2047, 2048, (3, 5), dtype=torch.int32)
    exact = (fixed.long() @ wide.long().t()).to(torch.int32)
    secret = integrity.draw(wide, 1)
    assert integrity.holds(secret, fixed, exact)
    exact[1, integrity.CHUNK + 1] ^= 1
    assert not integrity.holds(secret, fixed, exact)


@pytest.mark.parametrize(("outer", "inner"), [(1, 1), (1, 9), (9, 1), (integrity.CHUNK + 1, 1)])
def test_the_smallest_sides_hold_and_fail_too(outer, inner):
    weight = torch.randint(-127, 128, (outer, inner), dtype=torch.int8)
    fixed = torch.randint(-2047, 2048, (2, inner), dtype=torch.int32)
    exact = (fixed.long() @ weight.long().t()).to(torch.int32)
    secret = integrity.draw(weight, 1)
    assert integrity.holds(secret, fixed, exact)
    exact[1, -1] += 1
    assert not integrity.holds(secret, fixed, exact)
