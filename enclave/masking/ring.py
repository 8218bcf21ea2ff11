"""Exact products of words by int8 weights, modulo 2^24 or 2^32.

Two ways, which give the same bits: *limbs*, the bytes of all words in one stacked `torch._int_mm` (int8 ×
int8 -> int32; on CPUs with AMX or VNNI and on GPUs with tensor cores a multiple of the float32 speed), and
one *float64* GEMM, exact while its sums stay below 2^53. On a CPU without VNNI or AMX torch's int8 product
is slower than that by a factor of fifty, and elsewhere one that saturated within would be wrong: see
`quickest`. Both run on either side of the trust boundary.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from enclave.masking.residues import Buffers, Packed, meaning, pack

CACHED_SUMS, MIN_COLUMNS = 1 << 20, 64
"""Limb sums (4 MiB of int32) that are carried together while they are in a cache. Smaller pieces would fit
a nearer one, but cost the matrix product more than they save."""
FLOATS, WEIGHTS = 1 << 21, 1 << 20
"""Words and weights that are float64 at a time (16 and 8 MiB): a GEMM of smaller pieces is slower."""
INT8_UNITS = ("avx512_vnni", "amx_int8")
Method = Literal["limbs", "float64"]


class Limbs:
    """Multiplies words by weights that lie as (outer, inner) int8, on the CPU. One object per thread."""

    def __init__(self, method: Method | None = None) -> None:
        self._buffers = Buffers()
        self._multiply = self._float64 if (method or quickest()) == "float64" else self._limbs

    def multiply(self, words: Packed, weight: Tensor, out: Packed) -> None:
        """words · weightᵀ. Exact for an inner dimension of up to 2^15 (`fixed_point.MAX_INNER`).

        Args: `words` (rows, inner) words; `weight` (outer, inner) int8; `out` (rows, outer) residues of the
        same width.
        """
        self._multiply(words, weight, out)

    def _limbs(self, words: Packed, weight: Tensor, out: Packed) -> None:
        rows, inner = words.low.shape
        planes = self._buffers.take("planes", (words.limbs, rows, inner), torch.int8)
        digits = (
            (plane, shift) for plane in (words.low, words.high) for shift in range(0, 8 * plane.itemsize, 8)
        )
        for (plane, shift), target in zip(digits, planes.numpy(), strict=True):
            np.right_shift(plane, shift, out=target, casting="unsafe")
        stacked = planes.view(-1, inner)
        width = max(MIN_COLUMNS, CACHED_SUMS // len(stacked))
        for start in range(0, len(weight), width):
            piece = slice(start, start + width)
            sums = self._buffers.take("sums", (len(stacked), len(weight[piece])), torch.int32)
            int_mm(stacked, weight[piece], sums)
            total = weigh(sums.view(words.limbs, rows, -1))
            pack(total.numpy(), Packed(out.low[:, piece], out.high[:, piece]))

    def _float64(self, words: Packed, weight: Tensor, out: Packed) -> None:
        outer, inner = weight.shape
        rows, width = max(1, FLOATS // inner), max(MIN_COLUMNS, WEIGHTS // inner)
        for first in range(0, len(words.low), rows):
            block = words[first : first + rows]
            values = self._buffers.take("values", block.low.shape, torch.float64)
            values.copy_(torch.from_numpy(meaning(block)))
            for start in range(0, outer, width):
                piece = slice(start, start + width)
                floats = self._buffers.take("floats", (len(weight[piece]), inner), torch.float64)
                floats.copy_(weight[piece])
                sums = self._buffers.take("sums", (len(values), len(floats)), torch.float64)
                torch.mm(values, floats.t(), out=sums)
                total = sums.to(torch.int64).to(torch.int32)  # the second conversion is the reduction
                target = out[first : first + rows]
                pack(total.numpy(), Packed(target.low[:, piece], target.high[:, piece]))


def weigh(sums: Tensor) -> Tensor:
    """Σ sumᵢ·256ⁱ modulo 2^32, in the memory of the last.

    Args: `sums` (limbs, rows, outer) int32, the products of all digits.

    Returns: (rows, outer) int32.
    """
    *lower, total = sums.unbind()
    for digit in reversed(lower):
        torch.add(digit, total, alpha=256, out=total)
    return total


def int_mm(left: Tensor, weight: Tensor, out: Tensor) -> None:
    """`out` = left · weightᵀ. (oneDNN misreads the strides of a turned weight with one column: torch 2.13
    then gives wrong numbers.)

    Args: `left` (rows, inner) int8; `weight` (outer, inner) int8; `out` (rows, outer) int32.
    """
    if left.shape[1] == 1:
        torch.mul(left.to(torch.int32), weight.t().to(torch.int32), out=out)
    else:
        torch._int_mm(left, weight.t(), out=out)


@cache
def quickest() -> Method:
    """`limbs` where this process' CPU multiplies int8 without a detour, and the sums are exact. By what the
    CPU can do, not by a trial: a busy machine would mislead one."""
    if not any(torch.cpu.get_capabilities().get(unit) for unit in INT8_UNITS):
        return "float64"
    planes, weight = (
        torch.full((64, 256), -128, dtype=torch.int8),
        torch.full((64, 256), 127, dtype=torch.int8),
    )
    planes[1::2], weight[1::2] = 127, -127
    sums = torch.empty(64, 64, dtype=torch.int32)
    int_mm(planes, weight, sums)
    return "limbs" if torch.equal(sums.double(), planes.double() @ weight.double().t()) else "float64"
