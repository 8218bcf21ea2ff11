"""Fixed-point numbers: int8 weights with a scale per output channel, features with a scale per token.

A frozen linear y = x·Wᵀ becomes y ≈ (q·Qᵀ)·s·a: q = round(x/a) has `bits` bits and a scale a for each token,
Q has int8 and a scale s for each output channel. Its input gradient g·W ≈ (round(g·s/b)·Q)·b folds the
channel scales into the gradient before that is made fixed-point, so both directions are one integer product
with the same int8 weights. Dettmers et al., LLM.int8(), arXiv 2208.07339, scales in the same way.

The integer product must not overflow 32 bits, whatever the features: `part` chooses, from the weights alone,
how many bits a direction can carry and into how many parts its inner dimension is split (‖Q‖₁·max|q| is the
largest sum; rows forward, columns backward). Runs inside the enclave.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from contracts.refusal import Refusal

WEIGHT_LIMIT = 127
MIN_BITS, MAX_BITS = 12, 16
MAX_SUM = (1 << 31) - (1 << 24)
"""Exact sums stay below: then their three carries into signed digits fit, too (enclave/masking/integrity)."""
_ROWS = 256
"""Rows of a weight that are made fixed-point at a time: the enclave's memory is small."""
_COLUMNS = 64
"""Columns of a weight that are summed at a time."""
MAX_INNER = 1 << 15
"""Inner dimension of one part: the int32 sums of limbs and of check digits stay exact."""


@dataclass(frozen=True)
class Weight:
    """`values` (outputs, inputs) int8; `scale` (outputs,) float32: W ≈ values · scale."""

    values: Tensor
    scale: Tensor


def fix_weight(weight: Iterable[Tensor], outputs: int) -> Weight:
    """(outputs, inputs) float, some rows at a time -> int8, symmetric per output channel. Refuses with
    `masking.bad_weight`."""
    values, scale, at = torch.empty(0, dtype=torch.int8), torch.empty(outputs), 0
    for rows in (rows for piece in weight for rows in piece.split(_ROWS)):
        if not at:
            values = torch.empty(outputs, rows.shape[1], dtype=torch.int8)
        here = slice(at, at + len(rows))
        largest = rows.float().abs().amax(1)
        if not torch.isfinite(largest).all():
            raise Refusal("masking.bad_weight")
        scale[here] = torch.where(largest > 0, largest / WEIGHT_LIMIT, torch.ones_like(largest))
        values[here] = (rows.float() / scale[here, None]).round_().to(torch.int8)
        at += len(rows)
    return Weight(values, scale)


def limit(bits: int) -> int:
    """The largest magnitude of a fixed-point number. With 16 bits it is the largest whose two bytes are
    signed digits."""
    return min((1 << (bits - 1)) - 1, WEIGHT_LIMIT * 256 + WEIGHT_LIMIT)


def fix(features: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """(rows, inner) float32 -> (rows, inner) int32 of `bits` bits, and (rows, 1) float32 scales.

    Refuses with `training.diverged` what is not finite.
    """
    largest = features.abs().amax(1, keepdim=True).clamp_min_(1e-30)
    if not bool(torch.isfinite(largest).all()):
        raise Refusal("training.diverged")
    top = limit(bits)
    return (features * (top / largest)).round_().to(torch.int32), largest / top


@dataclass(frozen=True)
class Part:
    """A slice of a direction's inner dimension, and the bits that its features may have."""

    start: int
    stop: int
    bits: int
    bound: int


def part(values: Tensor) -> tuple[Part, ...]:
    """Split the inner dimension of (outer, inner) int8 weights so that no exact sum reaches MAX_SUM.

    All parts have the same number of bits: at least MIN_BITS, at most MAX_BITS. Refuses with
    `masking.too_wide` when even single columns overflow (impossible for int8).
    """
    inner = values.shape[1]
    count = -(-inner // MAX_INNER)
    while count <= inner:
        size = -(-inner // count)
        edges = [(start, min(start + size, inner)) for start in range(0, inner, size)]
        norms = [_largest_norm(values[:, a:b]) for a, b in edges]
        bits = max((b for b in range(MIN_BITS, MAX_BITS + 1) if max(norms) * limit(b) < MAX_SUM), default=0)
        if bits:
            pairs = zip(edges, norms, strict=True)
            return tuple(Part(a, b, bits, norm * limit(bits)) for (a, b), norm in pairs)
        count *= 2
    raise Refusal("masking.too_wide", inner=inner)


def _largest_norm(values: Tensor) -> int:
    """The largest ‖row‖₁ of int8 weights. Some columns at a time: torch sums a wider copy of what it is
    given, which for a large vocabulary would be several times the weights."""
    sums = torch.zeros(len(values), dtype=torch.int64)
    for columns in values.split(_COLUMNS, dim=1):
        sums += columns.abs().sum(1, dtype=torch.int32)
    return int(sums.max())
