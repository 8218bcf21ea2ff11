"""The optimisers of the server: the mean of the sites' changes as a gradient.

With Δ = mean − x, β₁, β₂, τ and the learning rate η of the manifest, for each number by itself:

    fedavgm   m ← β₁·m + Δ                                                 x ← x + η·m
    fedadam   m ← β₁·m + (1−β₁)·Δ   v ← β₂·v + (1−β₂)·Δ²                   x ← x + η·m / (√v + τ)
    fedyogi   m ← β₁·m + (1−β₁)·Δ   v ← v − (1−β₂)·Δ²·sign(v − Δ²)         x ← x + η·m / (√v + τ)

m begins with 0 and v with τ². The moments are kept as float32, as they are sealed, so an aggregator that
was started again goes on to the same bits. Runs inside the aggregator's enclave.

Source: Reddi et al., "Adaptive Federated Optimization", arXiv 2003.00295, algorithm 2; FedAvgM: Hsu et al.,
arXiv 1909.06335.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.manifest import ServerOptimizer
from enclave.training.aggregate import State
from enclave.training.tensors import FIRST, SECOND

Numbers = NDArray[Any]


def server_step(optimizer: ServerOptimizer, start: State, mean: State, moments: State) -> tuple[State, State]:
    """The next parameters in float64, and the next moments: float32, under names that begin with FIRST and
    SECOND; none before the first step."""
    state, following = {}, {}
    for name, begun in start.items():
        change = mean[name].astype(np.float64) - begun
        first = optimizer.beta1 * moments.get(FIRST + name, np.zeros_like(begun)).astype(np.float64)
        first += change if optimizer.tau is None else (1 - optimizer.beta1) * change
        following[FIRST + name] = kept = first.astype(np.float32)
        step = kept.astype(np.float64)
        if optimizer.tau is not None and optimizer.beta2 is not None:
            before = moments.get(SECOND + name, np.full_like(begun, optimizer.tau**2)).astype(np.float64)
            second = _second(optimizer.kind, optimizer.beta2, before, np.square(change))
            following[SECOND + name] = kept = second.astype(np.float32)
            step /= np.sqrt(kept.astype(np.float64)) + optimizer.tau
        state[name] = begun + optimizer.learning_rate * step
    return state, following


def _second(kind: str, beta: float, before: Numbers, square: Numbers) -> Numbers:
    if kind == "fedyogi":
        return before - (1 - beta) * square * np.sign(before - square)
    return beta * before + (1 - beta) * square
