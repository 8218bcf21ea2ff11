"""The accelerator's product in C gives what the portable one gives; it is taken where it is the quicker."""

import importlib.util
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave.masking.fixed_point import MAX_INNER
from enclave.masking.residues import WIDTHS, Packed
from enclave.masking.ring import Limbs
from enclave_host import product
from enclave_host.accelerator import Multiplier, read_products
from enclave_host.product import NativeProduct
from enclave_host.unmasked import WrittenStore
from enclave_host.words import room_for
from tests.masking.conftest import KERNELS


@pytest.fixture(scope="module")
def native(kernels):
    if not torch.cpu.get_capabilities().get("avx512_vnni"):
        pytest.skip("this CPU has no AVX-512 VNNI")
    return NativeProduct(kernels / "product.so")


def planes(rows, columns, limbs, generator):
    return Packed.over(bytearray(generator.bytes(rows * columns * limbs)), rows, columns, limbs)


def same(native, words, weight):
    """Whether both ways give the same bits, and nothing beside the answer is written."""
    rows, outer, limbs = len(words.low), len(weight), words.limbs
    right = room_for(rows, outer, limbs)
    Limbs("float64").multiply(words, weight, right)
    guard = bytearray(b"\xa5" * (limbs * rows * outer + 128))
    out = Packed.over(memoryview(guard)[64:-64], rows, outer, limbs)
    native.multiply(words, native.pack(weight), out)
    assert bytes(guard[:64]) == bytes(guard[-64:]) == b"\xa5" * 64
    return (out.low == right.low).all() and (out.high == right.high).all()


@settings(deadline=None, max_examples=150)
@given(
    rows=st.integers(1, 20),
    outer=st.integers(1, 90),
    inner=st.integers(1, 150),
    limbs=st.sampled_from(WIDTHS),
    seed=st.integers(0, 2**32),
)
def test_every_size_gives_the_same_bits(native, rows, outer, inner, limbs, seed):
    generator = np.random.default_rng(seed)
    weight = torch.from_numpy(generator.integers(-128, 128, (outer, inner), dtype=np.int8))
    assert same(native, planes(rows, inner, limbs, generator), weight)


@pytest.mark.parametrize("limbs", WIDTHS)
def test_the_extremes_multiply_without_loss(native, limbs):
    """The widest part that there is, all digits −128 or 127, against weights of one sign."""
    for byte in (0x80, 0x7F, 0):
        words = Packed.over(bytearray([byte]) * (2 * MAX_INNER * limbs), 2, MAX_INNER, limbs)
        for number in (-128, -127, 127):
            assert same(native, words, torch.full((3, MAX_INNER), number, dtype=torch.int8))


def test_what_does_not_fit_is_refused(native):
    weight = native.pack(torch.ones(6, 8, dtype=torch.int8))
    words, out = room_for(4, 8, 3), room_for(4, 6, 3)
    every_other = Packed(np.empty((8, 8), np.uint16)[::2], words.high)
    for given_, taken in (
        (room_for(4, 7, 3), out), (words, room_for(4, 5, 3)), (words, room_for(3, 6, 3)),
        (words, room_for(4, 6, 4)), (every_other, out),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"sizes|whole"):
            native.multiply(given_, weight, taken)


def test_an_accelerator_answers_the_same_with_it(native, tmp_path):
    store = WrittenStore(tmp_path)
    store.add("layer", [torch.randn(40, 33)], 40)
    portable = Multiplier(read_products(tmp_path))
    other = Multiplier(read_products(tmp_path), native=native)
    for entry, _ in read_products(tmp_path):
        assert portable.shape(entry.number) == other.shape(entry.number)
        words = planes(7, entry.inner, entry.limbs, np.random.default_rng(3))
        answers = [room_for(7, entry.outer, entry.limbs) for _ in range(2)]
        for multiplier, answer in zip((portable, other), answers, strict=True):
            multiplier.multiply(entry.number, words, answer)
        assert (answers[0].low == answers[1].low).all() and (answers[0].high == answers[1].high).all()


def test_it_is_taken_where_it_is_installed_and_the_quickest(native, kernels, monkeypatch):
    found = SimpleNamespace(origin=str(kernels / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: found)
    assert isinstance(product.installed(), NativeProduct)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_int8": True})
    assert product.installed() is None
    monkeypatch.undo()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert product.installed() is None


def test_a_cpu_of_another_kind_takes_the_portable_way(compiler, tmp_path, monkeypatch):
    """What is built for another kind of CPU says so, instead of an illegal instruction."""
    library, source = tmp_path / "product.so", str(KERNELS / "product.c")
    build = [compiler, "-std=gnu11", "-DPORTABLE", "-shared", "-fPIC", "-o", str(library), source]
    subprocess.run(build, check=True)
    with pytest.raises(OSError, match="another CPU"):
        NativeProduct(library)
    found = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: found)
    assert product.installed() is None
