"""The enclave's passes in C give the bits of those in numpy and torch, and no other library is loaded."""

import hashlib
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.refusal import Refusal
from enclave.masking import native
from enclave.masking.engine import LayerWork
from enclave.masking.fixed_point import MAX_NORM
from enclave.masking.in_clear import everywhere
from enclave.masking.masked import MaskedEngine, SentRequest
from enclave.masking.residues import WIDTHS, Packed
from enclave.slicing import placement
from enclave_host.unmasked import WrittenStore
from enclave_host.words import room_for
from tests.masking.tiny import LocalAccelerator

EXTREMES = (0.0, -0.0, 1e-45, -1e-40, 1.2e-38, 3.4e38, -3.4e38, 1.0, -1.5, 0.5, 1e-30, 1e10)
KINDS = st.sampled_from(["normal", "extreme", "halves", "zeros", "one large", "wide range"])


@pytest.fixture(scope="module")
def make(kernels, tmp_path_factory):
    """Both engines for one layer of the given shape, width and bound."""
    kind, count = native.with_passes(kernels / "passes.so"), iter(range(1 << 30))

    def both(outer, inner, limbs, most=None, repetitions=1):
        store = WrittenStore(tmp_path_factory.getbasetemp() / f"native-{next(count)}", [limbs])
        layer = store.add("layer", [torch.randn(outer, inner)], outer)
        portable = MaskedEngine(store, LocalAccelerator(store.folder), repetitions=repetitions)
        other = kind(store, LocalAccelerator(store.folder), repetitions=repetitions)
        other._secrets = portable._secrets
        products = layer.forward
        if most is not None:
            products = tuple(replace(product, most=most) for product in products)
        return portable, other, products

    return both


def some(kind, rows, columns, generator):
    """Rows of features, one of each kind of trouble."""
    normal = generator.normal(size=(rows, columns))
    if kind == "extreme":
        return generator.choice(EXTREMES, size=(rows, columns))
    if kind == "halves":  # all round up: the first rounding is longer than the bound
        return np.where(normal > 0, 1.0, -1.0) * (1 + 1e-4 * generator.random((rows, columns)))
    if kind == "zeros":
        return normal * generator.integers(0, 2, size=(rows, 1))
    if kind == "one large":
        normal[:, generator.integers(columns)] *= 1e30
    if kind == "wide range":
        normal *= 10.0 ** generator.integers(-38, 37, size=(rows, columns))
    return normal


def planes(rows, columns, limbs, generator):
    return Packed.over(bytearray(generator.bytes(rows * columns * limbs)), rows, columns, limbs)


def same(left, right):
    """Bit for bit."""
    return left.numpy().tobytes() == right.numpy().tobytes()


def written(engine, work, product, rows, stream, request):
    count = rows.stop - rows.start
    sent = SentRequest(product, rows, torch.empty(count, 1), engine._secrets[product.number].room(count))
    engine._write(work, sent, stream, request)
    return sent


@settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.integers(1, 11),
    inner=st.integers(1, 70),
    limbs=st.sampled_from(WIDTHS),
    kind=KINDS,
    most=st.none() | st.integers(0, 40).map(lambda bits: 1 << bits),
    scaled=st.booleans(),
    public=st.booleans(),
    repetitions=st.sampled_from([1, 2]),
    seed=st.integers(0, 2**32),
)
def test_what_goes_out_is_the_same(make, rows, inner, limbs, kind, most, scaled, public, repetitions, seed):
    generator = np.random.default_rng(seed)
    # a bound must leave room for rounding, as `parts` sees to
    most = None if most is None else min(most + inner * 48**2, MAX_NORM**2)
    portable, other, (product, *_) = make(3, inner, limbs, most, repetitions)
    with np.errstate(over="ignore"):
        features = np.nan_to_num(some(kind, rows, inner, generator).astype(np.float32))
    scale_in = torch.from_numpy(generator.random(inner).astype(np.float32)) if scaled else None
    work = LayerWork((product,), torch.from_numpy(features), scale_in, None, torch.empty(rows, 3))
    part = slice(int(generator.integers(rows)), rows)
    count = part.stop - part.start
    size = -(-inner * limbs // 16) * 16
    lines = np.frombuffer(generator.bytes(count * size), np.uint8).reshape(count, size)
    stream = everywhere(0x8080, count, inner, limbs) if public else Packed.beside(lines, inner, limbs)
    requests = [room_for(count, inner, limbs) for _ in range(2)]
    left, right = (
        written(engine, work, product, part, stream, request)
        for engine, request in zip((portable, other), requests, strict=True)
    )
    assert same(left.scale, right.scale) and same(left.claimed, right.claimed)
    assert (requests[0].low == requests[1].low).all() and (requests[0].high == requests[1].high).all()


@settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.integers(1, 11),
    outer=st.integers(1, 70),
    limbs=st.sampled_from(WIDTHS),
    channels=st.booleans(),
    first=st.booleans(),
    public=st.booleans(),
    repetitions=st.sampled_from([1, 2]),
    seed=st.integers(0, 2**32),
)
def test_what_comes_back_is_read_the_same(
    make, rows, outer, limbs, channels, first, public, repetitions, seed
):
    """Any bytes: an accelerator may answer what it likes."""
    generator = np.random.default_rng(seed)
    portable, other, (product, *_) = make(outer, 5, limbs, repetitions=repetitions)
    earlier = replace(product, number=product.number + 1)
    scale_out = torch.from_numpy(generator.normal(size=outer).astype(np.float32)) if channels else None
    before = torch.from_numpy(generator.normal(size=(rows, outer)).astype(np.float32))
    part = slice(int(generator.integers(rows)), rows)
    count = part.stop - part.start
    answer = planes(count, outer, limbs, generator)
    pads = everywhere(0, rows, outer, limbs) if public else planes(rows, outer, limbs, generator)
    scale = torch.from_numpy(10.0 ** generator.uniform(-38, 30, size=(count, 1))).float()
    results = []
    for engine in (portable, other):
        products = (product,) if first else (earlier, product)
        work = LayerWork(products, torch.empty(rows, 5), None, scale_out, before.clone())
        sent = SentRequest(product, part, scale, engine._secrets[product.number].room(count))
        results.append((engine._read(work, sent, pads, answer), work.result))
    assert same(results[0][0], results[1][0]) and same(results[0][1], results[1][1])


@pytest.mark.parametrize("limbs", WIDTHS)
@pytest.mark.parametrize("inner", [1, 7, 8, 16383, 16385, 20001])
def test_wide_rows_and_the_ends_of_the_ring_are_the_same(make, limbs, inner):
    """More columns than one float64 sum holds, of the largest numbers that there are."""
    generator = np.random.default_rng(inner)
    portable, other, products = make(2, inner if limbs == 4 else min(inner, 4096), limbs)
    for product in products:
        work = LayerWork((product,), torch.full((5, products[-1].stop), 3e38), None, None, torch.empty(5, 2))
        requests = [room_for(5, product.inner, limbs) for _ in range(2)]
        stream = planes(5, product.inner, limbs, generator)
        rows = slice(0, 5)
        left, right = (
            written(engine, work, product, rows, stream, request)
            for engine, request in zip((portable, other), requests, strict=True)
        )
        assert same(left.claimed, right.claimed) and same(left.scale, right.scale)
        assert (requests[0].low == requests[1].low).all() and (requests[0].high == requests[1].high).all()
    inner = products[-1].stop
    portable, other, (product, *_) = make(inner, 2, limbs)
    ends = [1 << 8 * limbs - 1, (1 << 8 * limbs - 1) - 1, 0]
    answer, pads = (room_for(3, inner, limbs) for _ in range(2))
    for row, end in enumerate(ends):
        answer.low[row], answer.high[row] = end & 0xFFFF, np.array(end >> 16).astype(answer.high.dtype)
        pads.low[row], pads.high[row] = 0, 0
    read = []
    for engine in (portable, other):
        work = LayerWork((product,), torch.empty(3, 2), None, None, torch.empty(3, inner))
        sent = SentRequest(product, slice(0, 3), torch.ones(3, 1), engine._secrets[product.number].room(3))
        read.append((engine._read(work, sent, pads, answer), work.result))
    assert same(read[0][0], read[1][0]) and same(read[0][1], read[1][1])
    assert [row[0].item() for row in read[1][1]] == [
        -(2.0 ** (8 * limbs - 1)),
        float(np.float32(ends[1])),
        0.0,
    ]


def test_rows_that_are_not_finite_are_refused_and_nothing_is_written(make):
    _, other, (product, *_) = make(3, 9, 3)
    for bad in (math.nan, math.inf, -math.inf):
        features = torch.zeros(5, 9)
        features[3, 4] = bad
        work = LayerWork((product,), features, None, None, torch.empty(5, 3))
        request = everywhere(7, 5, 9, 3)
        request = Packed(request.low.copy(), request.high.copy())
        with pytest.raises(Refusal, match=r"training\.diverged"):
            written(other, work, product, slice(0, 5), planes(5, 9, 3, np.random.default_rng(1)), request)
        assert (request.low == 7).all()


def test_sizes_that_do_not_fit_are_refused_by_the_binding_and_by_c(make, kernels):
    _, other, (product, *_) = make(3, 9, 3)
    work = LayerWork((product,), torch.zeros(5, 9), None, None, torch.empty(5, 3))
    stream = planes(5, 9, 3, np.random.default_rng(1))
    for request in (room_for(4, 9, 3), room_for(5, 8, 3), room_for(5, 9, 4)):
        with pytest.raises(AssertionError):
            written(other, work, product, slice(0, 5), stream, request)
    none, plane = native._Numbers(), native._Packed()
    passes = native.Passes(kernels / "passes.so")
    for sizes in ((-1, 9, 3), (5, 0, 3), (5, 9, 2), (5, 1 << 40, 3), (5, 9, 3)):  # the last: no digits
        assert not passes.write(*sizes, plane.low, none, none, plane, plane, none, none, none, none)
        assert not passes.read(*sizes, plane, plane, none, none, plane.low, 0, none, none, none)


def test_an_enclave_loads_the_library_that_is_measured_and_no_other(kernels, tmp_path, monkeypatch):
    library = kernels / "passes.so"
    sha256 = hashlib.sha256(library.read_bytes()).hexdigest()
    assert issubclass(native.engine(library, sha256), native.NativeEngine)
    changed = tmp_path / "passes.so"
    changed.write_bytes(library.read_bytes() + b"\0")
    (tmp_path / "text.so").write_bytes(b"no library")
    for other, pinned in (
        (library, "0" * 64), (changed, sha256), (None, sha256), (tmp_path / "missing.so", sha256),
        (library, None),
        (tmp_path / "text.so", hashlib.sha256(b"no library").hexdigest()),
    ):  # fmt: skip
        with pytest.raises(Refusal, match=r"masking\.no_passes"):
            native.engine(other, pinned)
    # the manifest says which: a host that has the library, or lacks it, changes nothing
    monkeypatch.setattr(placement, "PASSES", sha256)
    monkeypatch.setattr(native, "installed", lambda: library)
    assert placement.engine_of_release(native=False) is MaskedEngine
    assert issubclass(placement.engine_of_release(native=True), native.NativeEngine)
    monkeypatch.setattr(native, "installed", lambda: None)
    with pytest.raises(Refusal, match=r"masking\.no_passes"):
        placement.engine_of_release(native=True)


def test_where_there_are_no_files_in_memory_the_library_is_loaded_out_of_a_private_folder(
    kernels, monkeypatch
):
    def refused(name):
        raise OSError("as Gramine says")

    monkeypatch.setattr(native.os, "memfd_create", refused)
    library = kernels / "passes.so"
    sha256 = hashlib.sha256(library.read_bytes()).hexdigest()
    assert issubclass(native.engine(library, sha256), native.NativeEngine)


class Swapped(type(Path())):
    """A file of the host, which puts another in its place once it was read."""

    def read_bytes(self) -> bytes:
        data = super().read_bytes()
        self.unlink()
        self.write_bytes(b"another library")
        return data


def test_a_library_that_the_host_swaps_after_its_hash_was_taken_is_not_the_one_that_is_loaded(
    kernels, tmp_path
):
    library = Swapped(shutil.copy(kernels / "passes.so", tmp_path / "passes.so"))
    sha256 = hashlib.sha256((kernels / "passes.so").read_bytes()).hexdigest()
    assert issubclass(native.engine(library, sha256), native.NativeEngine)
    assert (tmp_path / "passes.so").read_bytes() == b"another library"
