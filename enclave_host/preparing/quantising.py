"""Weights in fixed point: int8 with a scale for each output, and the parts in which integers may meet them.

Every step is elementwise IEEE arithmetic (a division, a rounding to even) or exact on integers, so that the
same weights give the same bytes on every machine and with any number of threads: nothing is summed in
floating point. Public; no enclave loads this.

Source: scales as in Dettmers et al., LLM.int8(), arXiv 2208.07339.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isqrt, sqrt

import torch
from torch import Tensor

from contracts.refusal import Refusal
from enclave.masking.fixed_point import MAX_INNER, MAX_NORM, MIN_SIZE
from enclave.masking.layers import Parts
from enclave.masking.residues import WIDTHS

WEIGHT_LIMIT = 127
_ROWS = 256
"""Rows of a weight that are made fixed-point at a time: they are float32 then."""
_COLUMNS = 64
"""Columns of a weight whose squares are summed at a time: torch sums a wider copy of what it is given,
which for a large vocabulary would be several times the weights."""
PARTS = 4
"""Into so many parts a wide inner dimension is split for three limbs; where that is not enough it has
four."""


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
        step = largest / WEIGHT_LIMIT
        scale[here] = torch.where(step > 0, step, torch.ones_like(step))
        values[here] = (rows.float() / scale[here, None]).round_().to(torch.int8)
        at += len(rows)
    return Weight(values, scale)


def parts(values: Tensor, widths: Sequence[int] = WIDTHS) -> Parts:
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
            starts, ring = range(0, inner, step), (1 << (8 * limbs - 1)) ** 2
            most = tuple(min((ring - 1) // max(of, 1), MAX_NORM**2) for of in each[: len(starts)].tolist())
            widest = (min(step, inner - at) for at in starts)
            right = all(isqrt(m) >= MIN_SIZE * sqrt(of) for m, of in zip(most, widest, strict=True))
            if step <= MAX_INNER and right:
                return Parts(limbs, step, most)
            count *= 2
    raise AssertionError("127² · MAX_INNER leaves room in a ring of 2^32")


def _squares(values: Tensor) -> Tensor:
    """(outer, n) int8 -> (outer,) int64: Σw² of each row."""
    sums = torch.zeros(len(values), dtype=torch.int64)
    for columns in values.split(_COLUMNS, dim=1):
        sums += columns.to(torch.int16).square_().sum(1, dtype=torch.int32)
    return sums
