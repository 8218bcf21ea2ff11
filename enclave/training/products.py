"""LoRA as what it does to a layer: the product B·A, and its mean over sites.

Only factors are ever multiplied: a mean of products is the product of stacked factors, [w₁B₁ … wₙBₙ]·[A₁;
…; Aₙ], and a QR decomposition of each stack leaves a core of at most (sites · rank)². No (outputs, inputs)
matrix is made. All in float64, in the order of the site ids: the same updates give the same bits. Runs
inside the aggregator's enclave.

Source: Wang et al., FLoRA, arXiv 2409.05976.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from enclave.training.aggregate import State, Update

Matrix = NDArray[np.float64]
A, B = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True)
class LowRankProduct:
    """`left` (outputs, k) times `right` (k, inputs), float64; never multiplied out."""

    left: Matrix
    right: Matrix

    def __sub__(self, other: LowRankProduct) -> LowRankProduct:
        return LowRankProduct(np.hstack((self.left, -other.left)), np.vstack((self.right, other.right)))

    def square(self) -> float:
        """The squared Frobenius norm."""
        return float(np.square(self.cores()[1]).sum())

    def cores(self) -> tuple[tuple[Matrix, Matrix], Matrix]:
        """Orthonormal columns for each side, and the small matrix between them."""
        outer, above = np.linalg.qr(self.left)
        inner, beside = np.linalg.qr(self.right.T)
        return (outer, inner), above @ beside.T


def pairs(state: State) -> Iterator[tuple[str, LowRankProduct]]:
    """The layers that have both factors, by name, and their products."""
    for name in state:
        layer = name.removesuffix(A)
        if layer != name and layer + B in state:
            yield layer, LowRankProduct(state[layer + B].astype(np.float64), state[name].astype(np.float64))


def mean_products(updates: Sequence[Update]) -> dict[str, LowRankProduct]:
    """Layer -> Σ wᵢ·Bᵢ·Aᵢ / Σ wᵢ, as stacked factors."""
    total = sum(samples for samples, _ in updates)
    each = [(samples / total, dict(pairs(state))) for samples, state in updates]
    return {
        layer: LowRankProduct(
            np.hstack([part * products[layer].left for part, products in each]),
            np.vstack([products[layer].right for _, products in each]),
        )
        for layer in each[0][1]
    }


def deviation(updates: Sequence[Update], state: State) -> float | None:
    """‖mean(B·A) − B′·A′‖ / ‖mean(B·A)‖ over all layers together, with B′ and A′ from `state`; None where
    there are no pairs, or their mean is 0."""
    means, found = mean_products(updates), dict(pairs(state))
    size = math.fsum(product.square() for product in means.values())
    if size == 0:
        return None
    wrong = math.fsum((product - found[layer]).square() for layer, product in means.items())
    return math.sqrt(wrong / size)
