"""Freivalds' check of what an accelerator answered (R. Freivalds, IFIP Congress 1977).

What is checked is not the masked answer but the exact integer that the enclave gets out of it: y = q·Wᵀ,
with the pad taken off and read as a signed number of 24 or 32 bits. The bound on q (`fixed_point.quantise`)
makes the true y such a number. So a wrong answer, whatever it is modulo 2^24 or 2^32, makes a y' that
differs from y by an integer that is not zero and below 2^24 or 2^32 in size. With a secret s, uniform
modulo the prime p = 2^61 − 1, the enclave compares

    y'·s  with  q·v,  v = Wᵀ·s (computed once, at load)        modulo p

and a row with any wrong number passes with probability 1/p: a difference below p is not zero modulo p. The
width of the ring is not in that bound (docs/decisions/0036-three-limbs.md). The verdict tells the
accelerator nothing about y: it depends on the difference alone.

Both sides are float64 products by the signed digits of s and v, and exact: |y'|·digit·CHUNK is below 2^53.
Runs inside the enclave.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from enclave.masking.residues import Buffers

PRIME_BITS = 61
PRIME = (1 << PRIME_BITS) - 1
CHUNK = 1 << 14
"""Numbers whose products meet in one float64 sum: 2^23 · 2^15 · CHUNK = 2^31 · 2^7 · CHUNK = 2^52."""
_DIGIT_BITS = {3: 16, 4: 8}
_CARRY = {16: 0x0000800080008000, 8: 0x0080808080808080}


@dataclass(frozen=True)
class Secret:
    """For one product: the digits of s, `outer` (repetitions·digits, outer), and those of v, `inner`
    (repetitions·digits, inner), float64, of `bits` bits each."""

    outer: Tensor
    inner: Tensor
    bits: int

    def room(self, rows: int) -> Tensor:
        """Memory for what `claimed` or `answered` gives.

        Returns: (rows, repetitions·digits) int64, of undefined content.
        """
        return torch.empty(rows, len(self.inner), dtype=torch.int64)

    def claimed(self, fixed: Tensor, buffers: Buffers) -> Tensor:
        """q by the digits of v.

        Args: `fixed` (rows, inner) int32 of at most 2^23.

        Returns: (rows, repetitions·digits) int64.
        """
        return _against(fixed, self.inner, buffers)

    def answered(self, exact: Tensor, buffers: Buffers) -> Tensor:
        """y' by the digits of s.

        Args: `exact` (rows, outer) int32.

        Returns: (rows, repetitions·digits) int64.
        """
        return _against(exact, self.outer, buffers)

    def holds(self, claimed: Tensor, answered: Tensor) -> bool:
        """Whether y'·s is q·v modulo p in every row and repetition.

        Args: `claimed` and `answered` (rows, repetitions·digits) int64.
        """
        digits = (answered - claimed).numpy().reshape(len(claimed), -1, -(-PRIME_BITS // self.bits))
        return not _fold(digits, self.bits).any()


def draw(weight: Tensor, limbs: int, repetitions: int) -> Secret:
    """Draw `repetitions` secret vectors, and multiply them through.

    Args: `weight` (outer, inner) int8.
    """
    (outer, inner), bits = weight.shape, _DIGIT_BITS[limbs]
    drawn = [secrets.randbelow(PRIME) for _ in range(repetitions * outer)]
    secret = np.array(drawn, np.int64).reshape(repetitions, outer)
    digits = _digits(secret, bits)
    through = torch.zeros(len(digits), inner, dtype=torch.float64)
    for rows in _pieces(outer, max(1, (1 << 20) // inner)):  # float64 takes eight times the weights' size
        through.addmm_(digits[:, rows], weight[rows].double())
    sums = through.to(torch.int64).numpy().reshape(repetitions, -1, inner).transpose(0, 2, 1)
    return Secret(digits, _digits(_fold(sums, bits), bits), bits)


def _pieces(length: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, length, size))


def _against(numbers: Tensor, digits: Tensor, buffers: Buffers) -> Tensor:
    floats = buffers.take("checked", tuple(numbers.shape), torch.float64).copy_(numbers)
    pieces = _pieces(numbers.shape[1], CHUNK)
    return torch.stack([(floats[:, p] @ digits[:, p].t()).to(torch.int64) for p in pieces]).sum(0)


def _fold(digits: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    """(…, digits) signed sums -> (…,) Σ digitᵢ·2^(bits·i) modulo PRIME, in [0, PRIME)."""
    reduced = digits % PRIME
    folded: NDArray[np.int64] = reduced[..., 0]
    for i in range(1, digits.shape[-1]):
        folded = (folded + _rotate(reduced[..., i], bits * i)) % PRIME
    return folded


def _rotate(values: NDArray[np.int64], by: int) -> NDArray[np.int64]:
    """values·2^by modulo PRIME: a rotation of 61 bits, as 2^61 = 1 there."""
    kept = PRIME_BITS - by
    rotated: NDArray[np.int64] = ((values & ((1 << kept) - 1)) << by) | (values >> kept)
    return rotated


def _digits(values: NDArray[np.int64], bits: int) -> Tensor:
    """(repetitions, n) below PRIME -> (repetitions·digits, n) float64: signed digits of base 2^bits."""
    words = np.ascontiguousarray((values + _CARRY[bits]) ^ _CARRY[bits])
    digits = words[..., None].view(np.int16 if bits == 16 else np.int8)
    rows = digits.transpose(0, 2, 1).reshape(-1, values.shape[1])
    return torch.from_numpy(rows.astype(np.float64, order="C"))
