"""Fixed-point numbers: int8 weights with a scale per output channel, features with a scale per token.

A frozen linear y = x·Wᵀ becomes y ≈ (q·Qᵀ)·s·a: q = round(x/a) with a scale a for each token, Q int8 with a
scale s for each output channel. Its input gradient g·W ≈ (round(g·s/b)·Q)·b folds the channel scales into
the gradient before that is made fixed-point, so both directions are one integer product with the same int8
weights.

An integer product must not leave its ring, whatever the features: by Cauchy and Schwarz |q·wᵢ| ≤ ‖q‖·‖wᵢ‖,
so a row of features may have any q with

    Σq² · maxᵢ Σwᵢ² < 2^46      (three limbs, a ring of 2^24; 2^62 with four)

and `quantise` looks at the rounded integers themselves whether it has. The width follows from the weights
alone, which are made fixed-point when a model is prepared (enclave_host/preparing/quantising.py). (The bound
by max|q|·‖w‖₁ leaves three bits less.) Scales stay inside. Runs inside the enclave.

Source: scales as in Dettmers et al., LLM.int8(), arXiv 2208.07339.
"""

from __future__ import annotations

from functools import cache
from math import isqrt, sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from contracts.refusal import Refusal
from enclave.masking.residues import Buffers

MAX_INNER = 1 << 15
"""Inner dimension of one part: sums of limbs fit int32, and sums of words float64."""
MIN_SIZE = 48
"""The root mean square that every row of integers must be allowed: rounding is then an error of 0.6 %, less
than that of the int8 weights (about 1 %)."""
MAX_NORM = 1 << 20
"""No row of integers needs to be longer. So each fits a float32 exactly, as a sum of squares fits int64."""
SMALLEST = 1e-30
"""Rows of features are not scaled up beyond this norm; smaller ones become zeros by and by."""
_SLACK = 1 - 2.0**-16  # of float32 scales and products
_LEVELS = 20  # 4^_LEVELS · MIN_SIZE² is more than the squares of any row


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
