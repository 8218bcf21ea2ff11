"""Fixed-point numbers: int8 weights with a scale per output channel, features with a scale per token.

A frozen linear y = x·Wᵀ becomes y ≈ (q·Qᵀ)·s·a: q = round(x/a) with a scale a for each token, Q int8 with a
scale s for each output channel. Its input gradient g·W ≈ (round(g·s/b)·Q)·b folds the channel scales into
the gradient before that is made fixed-point, so both directions are one integer product with the same int8
weights.

An integer product must not leave its ring, whatever the features: by Cauchy and Schwarz |q·wᵢ| ≤ ‖q‖·‖wᵢ‖,
so a row of features may have any q with

    Σq² · maxᵢ Σwᵢ² < 2^46      (three limbs, a ring of 2^24; 2^62 with four)

and `quantise` looks at the rounded integers themselves whether it has. `parts` chooses the width from the
weights alone. (The bound by max|q|·‖w‖₁ leaves three bits less.) Scales stay inside. Runs inside the
enclave.

Source: scales as in Dettmers et al., LLM.int8(), arXiv 2208.07339.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from math import isqrt, sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from contracts.refusal import Refusal
from enclave.masking.residues import WIDTHS, Buffers

WEIGHT_LIMIT = 127
_ROWS = 256
"""Rows of a weight that are made fixed-point at a time: the enclave's memory is small."""
_COLUMNS = 64
"""Columns of a weight whose squares are summed at a time: torch sums a wider copy of what it is given,
which for a large vocabulary would be several times the weights."""
MAX_INNER = 1 << 15
"""Inner dimension of one part: sums of limbs fit int32, and sums of words float64."""
MIN_SIZE = 48
"""The root mean square that every row of integers must be allowed: rounding is then an error of 0.6 %, less
than that of the int8 weights (about 1 %)."""
PARTS = 4
"""Into so many parts a wide inner dimension is split for three limbs; where that is not enough it has
four."""
MAX_NORM = 1 << 20
"""No row of integers needs to be longer. So each fits a float32 exactly, as a sum of squares fits int64."""
SMALLEST = 1e-30
"""Rows of features are not scaled up beyond this norm; smaller ones become zeros by and by."""
_SLACK = 1 - 2.0**-16  # of float32 scales and products
_LEVELS = 20  # 4^_LEVELS · MIN_SIZE² is more than the squares of any row


@dataclass(frozen=True)
class Weight:
    """`values` (outputs, inputs) int8; `scale` (outputs,) float32: W ≈ values · scale."""

    values: Tensor
    scale: Tensor


def fix_weight(weight: Iterable[Tensor], outputs: int) -> Weight:
    """Make weights fixed-point, symmetric per output channel.

    Args: `weight` (outputs, inputs) float, some rows at a time.

    Returns: the same as int8, with a scale for each output.

    Raises: `masking.bad_weight`.
    """
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


@dataclass(frozen=True)
class InnerPart:
    """A slice of a direction's inner dimension, its width, and the most that Σq² may be in it."""

    start: int
    stop: int
    limbs: int
    most: int


def parts(values: Tensor, widths: Sequence[int] = WIDTHS) -> tuple[InnerPart, ...]:
    """Split the inner dimension, and choose the narrowest of `widths` in which rows of integers may be
    MIN_SIZE large. All parts are of one width; the widest always does.

    Args: `values` (outer, inner) int8.
    """
    inner = values.shape[1]
    finest = 1 << (max(PARTS, -(-inner // MAX_INNER)) - 1).bit_length()
    size = -(-inner // finest)
    squares = torch.stack([_squares(values[:, at : at + size]) for at in range(0, finest * size, size)])
    for limbs in widths:
        count = 1
        while count <= (finest if limbs == widths[-1] else PARTS):
            step, each = size * finest // count, squares.view(count, finest // count, -1).sum(1).amax(1)
            ring = (1 << (8 * limbs - 1)) ** 2
            found = tuple(
                InnerPart(at, min(at + step, inner), limbs, min((ring - 1) // max(largest, 1), MAX_NORM**2))
                for at, largest in zip(range(0, inner, step), each.tolist(), strict=False)
            )
            if step <= MAX_INNER and all(isqrt(p.most) >= MIN_SIZE * sqrt(p.stop - p.start) for p in found):
                return found
            count *= 2
    raise AssertionError("127² · MAX_INNER leaves room in a ring of 2^32")


def _squares(values: Tensor) -> Tensor:
    """(outer, n) int8 -> (outer,) int64: Σw² of each row."""
    sums = torch.zeros(len(values), dtype=torch.int64)
    for columns in values.split(_COLUMNS, dim=1):
        sums += columns.to(torch.int16).square_().sum(1, dtype=torch.int32)
    return sums


def quantise(features: Tensor, most: int, buffers: Buffers) -> tuple[Tensor, Tensor]:
    """Make features fixed-point. Every row takes the same steps, whether its first rounding misses the
    bound or not.

    Args: `features` (rows, inner) finite float32.

    Returns: (rows, inner) int32 with Σq² ≤ `most` in each row, valid until the next call, and (rows, 1)
    float32 scales.

    Raises: `training.diverged` for what is not finite.
    """
    scale = scales(features, most)
    rounded = buffers.take("rounded", tuple(features.shape), torch.float32)
    torch.mul(features, (1 / scale).float(), out=rounded).round_()
    return bounded(rounded, scale, most, buffers)


def scales(features: Tensor, most: int) -> Tensor:
    """What to divide rows by before their first rounding.

    Args: `features` (rows, inner) finite float32.

    Returns: (rows, 1) float64.

    Raises: `training.diverged` for what is not finite.
    """
    norm = torch.linalg.vector_norm(features, dim=1, keepdim=True, dtype=torch.float64)
    if not bool(torch.isfinite(norm).all()):
        raise Refusal("training.diverged")
    # rounding adds at most √inner / 2
    return norm.clamp_min_(SMALLEST) / ((isqrt(most) - sqrt(features.shape[1]) / 2) * _SLACK)


def bounded(rounded: Tensor, scale: Tensor, most: int, buffers: Buffers) -> tuple[Tensor, Tensor]:
    """Bring rows within `most`, as `quantise` gives them. The squares are counted in int64; a row that has
    too many is divided by 2, 4, … and rounded again, and all others by 1: the same steps.

    With Σq² ≤ 4ᵏ·(√most − √inner/2)² the rounded q/2ᵏ is at most √most long: that is exact, too.

    Args: `rounded` (rows, inner) float32, whole numbers up to MAX_NORM; `scale` (rows, 1) float32 or
    float64.

    Returns: (rows, inner) int32 and (rows, 1) float32 scales.
    """
    fixed = buffers.take("fixed", tuple(rounded.shape), torch.int32).copy_(rounded)
    integers = fixed.numpy()
    squares = np.einsum("ij,ij->i", integers, integers, dtype=np.int64)
    halvings = (squares[:, None] > limits(most, rounded.shape[1])).sum(1, keepdims=True)
    divisor = torch.from_numpy(np.left_shift(1, halvings).astype(np.float32))
    fixed.copy_(rounded.mul_(1 / divisor).round_())
    return fixed, (scale * divisor).float()


@cache
def limits(most: int, inner: int) -> NDArray[np.int64]:
    """A row is halved once for each of these that its Σq² exceeds.

    Returns: (levels,) int64.
    """
    kept = isqrt(most) - isqrt(inner // 4) - 1
    return np.array([most, *(min(kept**2 << 2 * level, 1 << 62) for level in range(1, _LEVELS))], np.int64)
