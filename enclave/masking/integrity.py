"""Freivalds' check of what an accelerator answered (R. Freivalds, IFIP Congress 1977).

What is checked is not the masked answer but the exact integer that the enclave gets out of it: y = q·Qᵀ, with
the pad taken off and read as a signed 32-bit number. The overflow check at load makes the true y such a
number. So a wrong answer, whatever it is modulo 2^32, makes a y' that differs from y by an integer that is
not zero and below 2^33 in size. With a secret s, uniform modulo the prime p = 2^61 − 1, the enclave compares

    y'·s  with  q·v,  v = Qᵀ·s (computed once, at load)        modulo p

and a row with any wrong number passes with probability 1/p: a difference below p is not zero modulo p.
(Modulo 2^31 − 1, an accelerator that adds 2^31 − 1 would pass; over Z/2^32 itself, one that adds 2^31 passes
every second time. On lifted integers the accelerator can answer with plain 32-bit residues, a quarter of the
bytes.) The verdict tells the accelerator nothing about y: it depends on the difference alone.

Both sides are int8 products with exact int32 sums: the bytes of y and of q, as signed digits, against the
eight signed digits of 256ⁱ·s and 256ⁱ·v. Runs inside the enclave.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from enclave.masking.ring import Buffers

PRIME_BITS = 61
PRIME = (1 << PRIME_BITS) - 1
DIGITS = 8
CHUNK = 1 << 14
"""Numbers whose digits meet in one int32 sum: 4 · 2^14 · 128 · 128 = 2^30."""
_CARRY_32 = 0x00808080
_CARRY_16 = 0x0080


@dataclass(frozen=True)
class Secret:
    """For one product: `outer` (4·outer, 8·repetitions) and `inner` (2·inner, 8·repetitions), int8."""

    outer: Tensor
    inner: Tensor


def draw(weight: Tensor, repetitions: int) -> Secret:
    """Draw `repetitions` secret vectors for (outer, inner) int8 weights, and multiply them through."""
    outer, inner = weight.shape
    secret = np.array(
        [[secrets.randbelow(PRIME) for _ in range(outer)] for _ in range(repetitions)], dtype=np.int64
    ).reshape(repetitions, outer)
    through = np.zeros((repetitions, inner), dtype=np.int64)
    for start in range(0, outer, CHUNK):
        piece = slice(start, start + CHUNK)
        digits = torch.from_numpy(_digits(secret[:, piece]).transpose(0, 2, 1).copy())
        sums = torch._int_mm(digits.view(repetitions * DIGITS, -1), weight[piece])
        folded = _fold(sums.numpy().reshape(repetitions, DIGITS, inner).transpose(0, 2, 1))
        through = (through + folded) % PRIME
    return Secret(_columns(secret, 4), _columns(through, 2))


def holds(secret: Secret, fixed: Tensor, exact: Tensor, buffers: Buffers | None = None) -> bool:
    """Whether every row of `exact` (rows, outer) int32 is `fixed` (rows, inner) int32 times the weights.

    `fixed` holds numbers of at most 16 bits (see `fixed_point.limit`).
    """
    buffers = buffers or Buffers()
    halves = buffers.take("halves", tuple(fixed.shape), torch.int16).copy_(fixed)
    halves.add_(_CARRY_16).bitwise_xor_(_CARRY_16)
    wholes = buffers.take("wholes", tuple(exact.shape), torch.int32)
    torch.add(exact, _CARRY_32, out=wholes).bitwise_xor_(_CARRY_32)
    difference = _against(wholes, secret.outer, 4) - _against(halves, secret.inner, 2)
    digits = difference.reshape(len(fixed), -1, DIGITS)
    return not _fold(digits).any()


def _against(numbers: Tensor, matrix: Tensor, width: int) -> NDArray[np.int64]:
    """(rows, n) numbers of `width` digit bytes × (width·n, columns) -> (rows, columns) int64."""
    total: NDArray[np.int64] | None = None
    columns = numbers.view(torch.int8)
    for start in range(0, matrix.shape[0], width * CHUNK):
        stop = start + width * CHUNK
        sums = torch._int_mm(columns[:, start:stop], matrix[start:stop]).numpy().astype(np.int64)
        total = sums if total is None else total + sums
    assert total is not None
    return total


def _fold(digits: NDArray[np.integer]) -> NDArray[np.int64]:
    """(…, 8) signed sums of up to 38 bits -> (…,) Σ digitᵢ·256ⁱ modulo PRIME, in [0, PRIME)."""
    powers = np.array([1, 1 << 8, 1 << 16, 1 << 24], dtype=np.int64)
    wide = digits.astype(np.int64)
    low = (wide[..., :4] * powers).sum(-1)
    high = (wide[..., 4:] * powers).sum(-1) % PRIME
    folded: NDArray[np.int64] = (low + _rotate(high, 32)) % PRIME
    return folded


def _rotate(values: NDArray[np.int64], by: int) -> NDArray[np.int64]:
    """values·2^by modulo PRIME: a rotation of 61 bits, as 2^61 = 1 there."""
    kept = PRIME_BITS - by
    rotated: NDArray[np.int64] = ((values & ((1 << kept) - 1)) << by) | (values >> kept)
    return rotated


def _digits(values: NDArray[np.int64]) -> NDArray[np.int8]:
    """(…,) below 2^61 -> (…, 8) signed digits of base 256."""
    carry = 0x0080808080808080
    words = (values + carry) ^ carry
    return words[..., None].view(np.int8)


def _columns(values: NDArray[np.int64], width: int) -> Tensor:
    """(repetitions, n) -> (width·n, 8·repetitions) int8: the digits of 256ⁱ·value for i below `width`."""
    repetitions, n = values.shape
    shifted = np.stack([_rotate(values, 8 * i) for i in range(width)], axis=-1)  # (repetitions, n, width)
    digits = _digits(np.ascontiguousarray(shifted))  # (repetitions, n, width, 8)
    return torch.from_numpy(digits.transpose(1, 2, 0, 3).reshape(width * n, DIGITS * repetitions).copy())
