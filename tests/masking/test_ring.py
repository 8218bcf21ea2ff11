"""Ring arithmetic in three and four bytes: words, masks, exact products."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave.masking import ring
from enclave.masking.fixed_point import MAX_INNER
from enclave.masking.residues import WIDTHS, Buffers, Packed, mask, meaning, of_mask, pack, unmask
from enclave.masking.ring import Limbs
from enclave_host.gpu import OnDevice
from enclave_host.words import room_for

widths = st.sampled_from(WIDTHS)
shapes = st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 7))
WAYS = {
    "limbs": Limbs("limbs").multiply,
    "float64": Limbs("float64").multiply,
    "device": OnDevice("cpu").multiply,
}


def uniform(rows, columns, limbs, seed):
    """Planes of random bytes."""
    return Packed.over(
        bytearray(np.random.default_rng(seed).bytes(rows * columns * limbs)), rows, columns, limbs
    )


def residues(packed):
    """Python integers modulo 2^24 or 2^32."""
    return (packed.low.astype(object) + (packed.high.astype(object) << 16)) % (1 << 8 * packed.limbs)


def of_digits(words):
    """What the bytes of words mean as signed digits, summed one by one."""
    low, high = (np.ascontiguousarray(plane)[..., None].view(np.int8) for plane in (words.low, words.high))
    digits = np.concatenate((low, high), axis=-1).astype(object)
    return sum(digits[..., i] << 8 * i for i in range(words.limbs)) % (1 << 8 * words.limbs)


def product(values, weight, limbs):
    """Of Python integers."""
    return (values @ weight.numpy().astype(object).T) % (1 << 8 * limbs)


@settings(deadline=None, max_examples=40)
@given(shapes, widths, st.integers(0, 2**32))
def test_a_word_means_the_sum_of_its_bytes_as_signed_digits(shape, limbs, seed):
    words = uniform(shape[0], shape[1], limbs, seed)
    assert (meaning(words).astype(object) % (1 << 8 * limbs) == of_digits(words)).all()


@settings(deadline=None, max_examples=40)
@given(shapes, widths, st.integers(0, 2**32))
def test_residues_lie_in_so_many_bytes_and_come_back_signed(shape, limbs, seed):
    packed = uniform(shape[0], shape[1], limbs, seed)
    assert packed.low.nbytes + packed.high.nbytes == limbs * shape[0] * shape[1]
    zeros, out = (
        Packed.over(bytes(limbs * shape[0] * shape[1]), *shape[:2], limbs),
        np.empty(shape[:2], np.int32),
    )
    unmask(packed, zeros, out, Buffers())
    half = 1 << 8 * limbs - 1
    assert (out.astype(object) % (2 * half) == residues(packed)).all()
    assert (-half <= out).all() and (out.astype(object) < half).all()
    again = room_for(*shape[:2], limbs)
    pack(out, again)
    assert (residues(again) == residues(packed)).all()


@settings(deadline=None, max_examples=40)
@given(shapes, widths, st.integers(0, 2**32))
def test_what_masks_add_pads_take_off(shape, limbs, seed):
    """(q + r)·Wᵀ − r·Wᵀ = q·Wᵀ, for any features, weights and masks."""
    rows, inner, outer = shape
    generator = np.random.default_rng(seed)
    weight = torch.from_numpy(generator.integers(-127, 128, (outer, inner), dtype=np.int8))
    fixed = generator.integers(-(1 << 20), 1 << 20, (rows, inner), dtype=np.int32)
    stream, words = uniform(rows, inner, limbs, seed), room_for(rows, inner, limbs)
    mask(stream, fixed, words, Buffers())
    constant = sum(128 << 8 * i for i in range(limbs - 1))
    assert (of_digits(words) == (residues(stream) + fixed - constant) % (1 << 8 * limbs)).all()
    answer, pads = room_for(rows, outer, limbs), room_for(rows, outer, limbs)
    Limbs().multiply(words, weight, answer)
    Limbs().multiply(of_mask(stream), weight, pads)
    exact = np.empty((rows, outer), np.int32)
    unmask(answer, pads, exact, Buffers())
    modulus = 1 << 8 * limbs
    assert (exact.astype(object) % modulus == product(fixed.astype(object), weight, limbs)).all()


@settings(deadline=None, max_examples=40)
@given(shapes, widths, st.integers(0, 2**32))
def test_every_way_to_multiply_gives_what_python_integers_give(shape, limbs, seed):
    rows, inner, outer = shape
    words = uniform(rows, inner, limbs, seed)
    weight = torch.from_numpy(np.random.default_rng(seed).integers(-127, 128, (outer, inner), dtype=np.int8))
    expected = product(of_digits(words), weight, limbs)
    for multiply in WAYS.values():
        out = room_for(rows, outer, limbs)
        multiply(words, weight, out)
        assert (residues(out) == expected).all()


@pytest.mark.parametrize("limbs", WIDTHS)
@pytest.mark.parametrize("way", WAYS)
def test_the_extremes_multiply_without_loss(way, limbs):
    """The widest part that there is, all digits −128 or 127, against weights of one sign."""
    memory = bytearray().join(
        bytes([byte]) * (MAX_INNER * size) for size in (2, limbs - 2) for byte in (0x80, 0x7F)
    )
    words = Packed.over(memory, 2, MAX_INNER, limbs)
    assert {int(w) for w in words.high.ravel()} == ({-128, 127} if limbs == 3 else {-0x7F80, 0x7F7F})
    for number in (-127, 127):
        weight, out = torch.full((3, MAX_INNER), number, dtype=torch.int8), room_for(2, 3, limbs)
        WAYS[way](words, weight, out)
        assert (residues(out) == product(of_digits(words), weight, limbs)).all()


def test_a_reused_buffer_does_not_leak_into_a_smaller_product():
    weight = torch.from_numpy(np.random.default_rng(1).integers(-127, 128, (6, 8), dtype=np.int8))
    for way in ("limbs", "float64"):
        limbs = Limbs(way)
        for rows in (9, 2):
            words, out = uniform(rows, 8, 3, rows), room_for(rows, 6, 3)
            limbs.multiply(words, weight, out)
            assert (residues(out) == product(of_digits(words), weight, 3)).all()
    buffers = Buffers()
    assert (
        buffers.take("a", (4, 4), torch.int32).data_ptr() == buffers.take("a", (2, 3), torch.int32).data_ptr()
    )


def test_pieces_of_a_large_product_fit_together():
    words, weight = uniform(30, 500, 3, 1), torch.from_numpy(
        np.random.default_rng(2).integers(-127, 128, (700, 500), dtype=np.int8)
    )  # fmt: skip
    expected = product(of_digits(words), weight, 3)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("FLOATS", 4000), ("WEIGHTS", 40_000), ("CACHED_SUMS", 10_000)):
            patch.setattr(ring, name, value)
        for way in ("limbs", "float64"):
            out = room_for(30, 700, 3)
            Limbs(way).multiply(words, weight, out)
            assert (residues(out) == expected).all()


def test_limbs_are_for_processors_that_multiply_int8_and_whose_sums_do_not_saturate(monkeypatch):
    def saturating(left, weight, out):
        out.copy_((left.double() @ weight.double().t()).clamp(-32768, 32767))

    decide = ring.quickest.__wrapped__
    for capable, expected in (
        ({}, "float64"),
        ({"avx512_vnni": True}, "limbs"),
        ({"amx_int8": True}, "limbs"),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capable: found)
        assert decide() == expected
    monkeypatch.setattr(ring, "int_mm", saturating)
    assert decide() == "float64"
