"""The accelerator's product in C (kernels/product.c): straight from words, on a CPU with AVX-512 VNNI.

Bit for bit what `enclave.masking.ring.Limbs` gives, which stays the way of every other machine: without the
package fedslice-kernels, on another CPU, and on one with AMX, where torch is quicker. Runs on the site's
host, outside every trust boundary; no enclave loads it.
"""

from __future__ import annotations

import ctypes
import importlib.util
from ctypes import c_int64, c_void_p
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from enclave.masking.residues import Buffers, Packed

VERSION = 1


@dataclass(frozen=True)
class PackedWeight:
    """(outer, inner) int8 weights as the kernel reads them: each plus 128, those of 32 outputs together."""

    outer: int
    inner: int
    values: Tensor


class NativeProduct:
    """Multiplies words by packed weights. One object per thread. Raises OSError or AttributeError where the
    library is none of this version or the CPU none of its kind."""

    def __init__(self, library: Path) -> None:
        loaded = ctypes.CDLL(str(library))
        version, runs = loaded.fedslice_product, loaded.fedslice_product_runs
        self._pack, self._multiply = loaded.fedslice_product_pack, loaded.fedslice_product_multiply
        self._weights, self._scratch = loaded.fedslice_product_weights, loaded.fedslice_product_scratch
        version.restype = self._weights.restype = self._scratch.restype = c_int64
        self._weights.argtypes, self._scratch.argtypes = [c_int64] * 2, [c_int64] * 3
        self._pack.argtypes = [c_void_p, c_int64, c_int64, c_void_p]
        self._pack.restype = self._multiply.restype = None
        self._multiply.argtypes = [c_int64] * 4 + [c_void_p] * 6
        if version() != VERSION or not runs():
            raise OSError("a product of another version, or of another CPU")
        self._buffers = Buffers()

    def pack(self, weight: Tensor) -> PackedWeight:
        """Weights to multiply by."""
        (outer, inner), weight = weight.shape, weight.contiguous()
        assert weight.dtype == torch.int8
        values = torch.empty(self._weights(outer, inner), dtype=torch.uint8)
        self._pack(weight.data_ptr(), outer, inner, values.data_ptr())
        return PackedWeight(outer, inner, values)

    def multiply(self, words: Packed, weight: PackedWeight, out: Packed) -> None:
        """(rows, inner) words × weights -> (rows, outer) residues of the same width."""
        (rows, inner), limbs = words.low.shape, words.limbs
        planes = (words.low, words.high, out.low, out.high)
        if inner != weight.inner or out.low.shape != (rows, weight.outer) or out.limbs != limbs:
            raise ValueError("words, weights and residues of different sizes")
        if any(not plane.flags.c_contiguous for plane in planes):
            raise ValueError("planes that are not whole")
        scratch = self._buffers.take("scratch", (self._scratch(rows, inner, limbs),), torch.uint8)
        low, high, out_low, out_high = (plane.ctypes.data for plane in planes)
        self._multiply(
            rows,
            weight.outer,
            inner,
            limbs,
            low,
            high,
            weight.values.data_ptr(),
            out_low,
            out_high,
            scratch.data_ptr(),
        )


def installed() -> NativeProduct | None:
    """The kernel, where it is installed and this CPU's quickest."""
    if torch.cpu.get_capabilities().get("amx_int8"):
        return None
    package = importlib.util.find_spec("fedslice_kernels")
    if package is None or package.origin is None:
        return None
    try:
        return NativeProduct(Path(package.origin).with_name("product.so"))
    except (OSError, AttributeError):
        return None
