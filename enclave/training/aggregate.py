"""Aggregation rules. Run inside the aggregator's enclave, which alone sees more than one site's update.

- `fedavg` averages every tensor: the paper's rule. Of LoRA it averages the factors A and B apart, and the
  mean of the products differs from the product of the means (DESIGN.md, decision 10).
- `ffa-lora` is the same mean, but sites tune and send B alone: with one A, it is exact (Sun et al.,
  arXiv 2403.12313).
- `stack-svd` averages the products and takes the best factors of the rank (enclave/training/products.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.refusal import Refusal

MAX_SAMPLES = 1 << 40

State = dict[str, NDArray[Any]]
"""Tuned parameters; float64 where more precision than theirs is under way."""
Update = tuple[int, State]
"""A site's weight (its training rows, or fewer where weights are capped), and its tuned parameters."""


def fedavg(updates: Sequence[Update]) -> State:
    """The mean of the updates weighted by their samples (McMahan et al., arXiv 1602.05629, algorithm 1).

    `updates` holds (samples, state) in the order of the site ids; sums run in that order in float64, so the
    same updates give the same bits. The result has the states' number type. Refuses with `aggregate.nothing`,
    `aggregate.samples`, `tensors.names` or `tensors.shape`.
    """
    if not updates:
        raise Refusal("aggregate.nothing")
    template = updates[0][1]
    for samples, state in updates:
        if not 0 < samples <= MAX_SAMPLES:
            raise Refusal("aggregate.samples", samples=samples)
        if state.keys() != template.keys():
            raise Refusal("tensors.names")
        for name, tensor in state.items():
            if tensor.shape != template[name].shape:
                raise Refusal("tensors.shape", name=name)
    total = sum(samples for samples, _ in updates)
    mean: State = {}
    for name, tensor in template.items():
        accumulated = np.zeros(tensor.shape, np.float64)
        for samples, state in updates:
            accumulated += state[name].astype(np.float64) * samples
        mean[name] = (accumulated / total).astype(tensor.dtype)
    return mean


def clip(state: State, start: Mapping[str, NDArray[Any]], bound: float) -> tuple[State, bool]:
    """Bound the L2 norm of the change from `start` to `state`, over all tensors together.

    Returns the state in float64, shortened towards `start` where the change was longer than `bound`, and
    whether it was (McMahan et al., arXiv 1710.06963). A change within the bound keeps its exact values.
    """
    changes = {name: tensor.astype(np.float64) - start[name] for name, tensor in state.items()}
    norm = math.sqrt(math.fsum(float(np.square(change).sum()) for change in changes.values()))
    if norm <= bound:
        return {name: tensor.astype(np.float64) for name, tensor in state.items()}, False
    scale = bound / norm
    return {name: start[name] + change * scale for name, change in changes.items()}, True
