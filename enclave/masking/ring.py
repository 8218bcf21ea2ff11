"""Arithmetic modulo 2^32 between residues and int8 weights.

A residue travels as a *word*: 32 bits whose four bytes, lowest first, are read as signed digits d₀…d₃ and
mean Σ dᵢ·256ⁱ (mod 2^32). Every 32-bit pattern is a word of exactly one residue, so a uniform residue is a
uniform word, and the bytes of a word are at once the int8 limbs that a matrix unit multiplies: nothing has to
be carried from limb to limb.

`Limbs` multiplies all four limbs in one stacked `torch._int_mm` (int8 × int8 → int32, exact; on CPUs with AMX
or VNNI and on GPUs with tensor cores a multiple of the float32 speed). `reference` computes the same by one
float64 GEMM, which is exact while 2^32·‖W‖₁ < 2^53. Both run on either side of the trust boundary.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

LIMBS = 4
FLIP = 0x80808080 - (1 << 32)
"""0x80808080 as an int32: adding it and flipping its bits turns a residue into its word."""
MAX_REFERENCE_NORM = 1 << 21
CACHED_SUMS, MIN_COLUMNS = 1 << 20, 64
"""Limb sums (4 MiB of int32) that are carried together while they are in a cache. Smaller pieces would fit a
nearer one, but cost the matrix product more than they save."""
GPU_SUMS = 1 << 26
"""On a GPU one large product is faster than many small ones; this bounds its memory (256 MiB)."""
Method = Literal["limbs", "float64"]


def to_words(residues: Tensor, out: Tensor | None = None) -> Tensor:
    """int32 residues -> int32 words, same shape."""
    return torch.bitwise_xor(residues + FLIP, FLIP, out=out)


def from_words(words: Tensor) -> Tensor:
    """int32 words -> int32 residues, same shape."""
    return (words ^ FLIP).sub_(FLIP)


class Buffers:
    """Memory that is used again: fresh pages for each product would cost more than the product."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._device = torch.device(device)
        self._flat: dict[tuple[str, torch.dtype], Tensor] = {}

    def take(self, purpose: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A tensor with undefined content; the next `take` for the same purpose overwrites it."""
        size = math.prod(shape)
        flat = self._flat.get((purpose, dtype))
        if flat is None or flat.numel() < size:
            with torch.inference_mode(False):  # what an evaluation made, training must be able to overwrite
                flat = torch.empty(size, dtype=dtype, device=self._device)
            self._flat[purpose, dtype] = flat
        return flat[:size].view(shape)


class Limbs:
    """Multiplies words by weights that lie as (outer, inner) int8. One object per thread."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._buffers = Buffers(device)
        self._together = CACHED_SUMS if torch.device(device).type == "cpu" else GPU_SUMS

    def multiply(self, words: Tensor, weight: Tensor, out: Tensor | None = None) -> Tensor:
        """(rows, inner) int32 words × (outer, inner) int8 -> (rows, outer) int32 residues."""
        rows, inner = words.shape
        outer = weight.shape[0]
        planes = self._buffers.take("planes", (LIMBS, rows, inner), torch.int8)
        _split(words, planes)
        stacked = planes.view(LIMBS * rows, inner)
        if out is None:
            out = torch.empty(rows, outer, dtype=torch.int32, device=words.device)
        width = max(MIN_COLUMNS, self._together // (LIMBS * rows))
        for start in range(0, outer, width):
            piece = weight[start : start + width]
            sums = self._buffers.take("sums", (LIMBS * rows, len(piece)), torch.int32)
            _int_mm(stacked, piece, sums)
            low, second, third, high = sums.view(LIMBS, rows, len(piece))
            product = torch.add(third, high, alpha=256, out=high)
            torch.add(second, product, alpha=256, out=product)
            torch.add(low, product, alpha=256, out=out[:, start : start + width])
        return out


def reference(words: Tensor, weight: Tensor, out: Tensor | None = None) -> Tensor:
    """What `Limbs.multiply` computes, by one float64 GEMM: portable, and bit-equal.

    Exact for rows of `weight` with ‖·‖₁ ≤ MAX_REFERENCE_NORM, which the overflow check at load implies.
    """
    exact = from_words(words).double() @ weight.double().t()
    product = exact.to(torch.int64).to(torch.int32)  # the second conversion is the reduction mod 2^32
    return product if out is None else out.copy_(product)


def _split(words: Tensor, planes: Tensor) -> None:
    """Bytes of (rows, inner) words -> four (rows, inner) int8 planes, lowest first."""
    if words.device.type == "cpu":  # numpy narrows 32 bits to 8 several times as fast as torch does
        source, target = words.numpy(), planes.numpy()
        for limb in range(LIMBS):
            np.right_shift(source, 8 * limb, out=target[limb], casting="unsafe")
    else:
        planes.copy_(words.view(torch.int8).view(*words.shape, LIMBS).permute(2, 0, 1))


def _int_mm(left: Tensor, weight: Tensor, out: Tensor) -> None:
    """`out` = left · weightᵀ. cuBLAS wants more than 16 rows and sizes that 8 divides; zeros fill up. (oneDNN
    misreads the strides of a turned weight with one column: torch 2.13 then gives wrong numbers.)"""
    if left.shape[1] == 1:
        torch.mul(left.to(torch.int32), weight.t().to(torch.int32), out=out)
        return
    if left.device.type == "cpu":
        torch._int_mm(left, weight.t(), out=out)
        return
    rows, inner = left.shape
    outer = weight.shape[0]
    missing = (max(24 - rows, -rows % 8), -inner % 8, -outer % 8)
    if any(missing):
        left = torch.nn.functional.pad(left, (0, missing[1], 0, missing[0]))
        weight = torch.nn.functional.pad(weight, (0, missing[1], 0, missing[2]))
    out.copy_(torch._int_mm(left, weight.t())[:rows, :outer])
