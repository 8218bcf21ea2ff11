"""The rule stack-svd: the best LoRA factors of the mean of the sites' products. Runs inside the aggregator,
where the manifest asks for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from enclave.training.aggregate import State, Update
from enclave.training.products import A, B, LowRankProduct, mean_products


def stack_svd(updates: Sequence[Update], mean: State) -> State:
    """The best factors, of the sites' own rank, of the mean of the products; all other tensors as in `mean`,
    which is that of the same updates."""
    state = dict(mean)
    for layer, product in mean_products(updates).items():
        rank, kind = len(mean[layer + A]), mean[layer + A].dtype
        found = best(product, rank)
        state[layer + A], state[layer + B] = found.right.astype(kind), found.left.astype(kind)
    return state


def best(product: LowRankProduct, rank: int) -> LowRankProduct:
    """The nearest product of this rank in the Frobenius norm.

    `left` holds the singular values, and the rows of `right` have length one, as in FlexLoRA: a direction
    whose singular value is 0 can still be learnt. Each direction's sign is such that its largest entry in
    `right` is positive.

    Source: Eckart and Young, 1936; FlexLoRA: Bai et al., arXiv 2402.11505.
    """
    (outer, inner), core = product.cores()
    u, s, v = np.linalg.svd(core, full_matrices=False)
    rank_found = min(rank, len(s))
    left = outer @ (u[:, :rank_found] * s[:rank_found])
    right = v[:rank_found] @ inner.T
    sign = np.sign(np.take_along_axis(right, np.abs(right).argmax(1, keepdims=True), 1))
    missing = rank - rank_found  # a layer narrower than the rank
    return LowRankProduct(
        np.pad(left * sign.T, ((0, 0), (0, missing))),
        np.pad(right * sign, ((0, missing), (0, 0))),
    )
