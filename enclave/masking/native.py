"""The masked engine with its passes in C (kernels/passes.c): the same bits, a fraction of the calls.

Where the manifest asks for it, an enclave loads the library, if its bytes have the SHA-256 that
`placement.PASSES` names, and that is measured with the program; or it refuses. This binding vouches for
every size, and C looks at them again. Runs inside the enclave.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import tempfile
from ctypes import Structure, c_int64, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from contracts.refusal import Refusal
from enclave.masking.engine import LayerWork, blocks
from enclave.masking.fixed_point import limits, scales
from enclave.masking.masked import MaskedEngine, SentRequest, within
from enclave.masking.residues import Buffers, Packed

VERSION = 1
TOGETHER = 4
"""Rows that C computes together: its scratch holds so many."""


class _Plane(Structure):
    _fields_ = [("at", c_void_p), ("stride", c_int64)]


class _Packed(Structure):
    _fields_ = [("low", _Plane), ("high", _Plane)]


class _Numbers(Structure):
    _fields_ = [("at", c_void_p), ("count", c_int64)]


_SIZES = [c_int64] * 3
_WRITE = [*_SIZES, _Plane, _Numbers, _Numbers, _Packed, _Packed, _Numbers, _Numbers, _Numbers, _Numbers]
_READ = [*_SIZES, _Packed, _Packed, _Numbers, _Numbers, _Plane, c_int64, _Numbers, _Numbers, _Numbers]


class Passes:
    """The library's two functions. Raises OSError or AttributeError where it is none of this version."""

    def __init__(self, library: Path) -> None:
        loaded = ctypes.CDLL(str(library))
        version, write, read = loaded.fedslice_passes, loaded.fedslice_write, loaded.fedslice_read
        version.restype, write.argtypes, read.argtypes = c_int64, _WRITE, _READ
        if version() != VERSION:
            raise OSError("passes of another version")
        self.write, self.read = write, read


class NativeEngine(MaskedEngine):
    """A `MaskedEngine` with passes in C; see `with_passes`."""

    passes: Passes

    def _write(self, work: LayerWork, sent: SentRequest, stream: Packed, request: Packed) -> None:
        product, secret = sent.product, self._secrets[sent.product.number]
        with self._timed("mask"):
            for block in blocks(len(sent.scale), product.inner):
                features = self.features(work, product, within(sent.rows, block)).contiguous()
                scale = scales(features, product.most)
                factor, divisor = (1 / scale).float(), torch.empty(len(scale), 1)
                shape = (len(scale), product.inner)
                stream_here, request_here = _readable(stream[block], shape), request[block]
                done = self.passes.write(
                    *shape,
                    product.limbs,
                    _plane(features.numpy(), np.float32, shape),
                    _numbers(factor, torch.float32),
                    _numbers(torch.from_numpy(limits(product.most, product.inner)), torch.int64),
                    _packed(stream_here, product.limbs, shape),
                    _packed(request_here, product.limbs, shape),
                    _numbers(secret.inner, torch.float64),
                    _numbers(sent.claimed[block], torch.int64),
                    _numbers(divisor, torch.float32),
                    _scratch(self._buffers, product.inner),
                )
                assert done, "C refuses these sizes"
                sent.scale[block] = (scale * divisor).float()

    def _read(self, work: LayerWork, sent: SentRequest, pads: Packed, answer: Packed) -> Tensor:
        product, secret, result = sent.product, self._secrets[sent.product.number], work.result[sent.rows]
        shape, answered = (len(sent.scale), product.outer), secret.room(len(sent.scale))
        pads_here, channels = _readable(pads[sent.rows], shape), work.scale_out
        with self._timed("mask"):
            done = self.passes.read(
                *shape,
                product.limbs,
                _packed(answer, product.limbs, shape),
                _packed(pads_here, product.limbs, shape),
                _numbers(sent.scale, torch.float32),
                _Numbers() if channels is None else _numbers(channels, torch.float32),
                _plane(result.numpy(), np.float32, shape),
                product is not work.products[0],
                _numbers(secret.outer, torch.float64),
                _numbers(answered, torch.int64),
                _scratch(self._buffers, product.outer),
            )
            assert done, "C refuses these sizes"
        return answered


def installed() -> Path | None:
    """The library of the package fedslice-kernels, which need not be there."""
    package = importlib.util.find_spec("fedslice_kernels")
    return None if package is None or package.origin is None else Path(package.origin).with_name("passes.so")


def with_passes(library: Path) -> type[NativeEngine]:
    """An engine with this library's passes. Raises OSError or AttributeError where it is none of ours."""
    return type("WithPasses", (NativeEngine,), {"passes": Passes(library)})


def engine(library: Path | None, sha256: str | None) -> type[MaskedEngine]:
    """The engine with these passes, if the library's bytes have this hash. They are read once, and what is
    loaded is a copy of the enclave's own: the host may have put another file there since.

    Raises: `masking.no_passes`.
    """
    try:
        if library is None or hashlib.sha256(data := library.read_bytes()).hexdigest() != sha256:
            raise Refusal("masking.no_passes", pinned=str(sha256))
        return _private(data)
    except (OSError, AttributeError) as error:
        raise Refusal("masking.no_passes", pinned=str(sha256)) from error


def _private(data: bytes) -> type[MaskedEngine]:
    """Load it out of memory, or, as Gramine has no such files, out of a folder that Gramine keeps in the
    enclave's memory. (In a trust domain nothing can be loaded out of /tmp.)"""
    try:
        file = os.memfd_create("passes")
    except OSError:
        with tempfile.TemporaryDirectory(prefix="fedslice-passes-") as private:
            copy = Path(private) / "passes.so"
            copy.write_bytes(data)
            return with_passes(copy)
    with open(
        file, "wb", closefd=False
    ) as memory:  # never closed: two files of one number were one to dlopen
        memory.write(data)
    return with_passes(Path(f"/proc/self/fd/{file}"))


def _readable(packed: Packed, shape: tuple[int, int]) -> Packed:
    """The same, its rows contiguous: of what is one residue everywhere, one row that stands for all."""
    if packed.low.strides != (0, 0) or not packed.low.size:
        return packed
    rows = (np.ascontiguousarray(plane[:1]) for plane in (packed.low, packed.high))
    return Packed(*(np.lib.stride_tricks.as_strided(row, shape, (0, row.itemsize)) for row in rows))


def _packed(packed: Packed, limbs: int, shape: tuple[int, int]) -> _Packed:
    high = np.int8 if limbs == 3 else np.int16
    return _Packed(_plane(packed.low, np.uint16, shape), _plane(packed.high, high, shape))


def _plane(plane: NDArray[Any], kind: DTypeLike, shape: tuple[int, int]) -> _Plane:
    if plane.dtype != kind or plane.shape != shape or plane.strides[1] != plane.itemsize:
        raise AssertionError("not the plane of a product")
    return _Plane(plane.ctypes.data, plane.strides[0])


def _numbers(numbers: Tensor, kind: torch.dtype) -> _Numbers:
    if numbers.dtype != kind or not numbers.is_contiguous():
        raise AssertionError("not the numbers of a product")
    return _Numbers(numbers.data_ptr(), numbers.numel())


def _scratch(buffers: Buffers, columns: int) -> _Numbers:
    return _numbers(buffers.take("scratch", (TOGETHER * columns,), torch.int32), torch.int32)
