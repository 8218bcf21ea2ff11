"""Aggregation rules. Run inside the aggregator's enclave, which alone sees more than one site's update.

- `fedavg` averages every tensor: the paper's rule. Of LoRA it averages the factors A and B apart, and the
  mean of the products differs from the product of the means (docs/decisions/0010).
- `ffa-lora` is the same mean, but sites tune and send B alone: with one A, it is exact.
- `stack-svd` averages the products and takes the best factors of the rank (enclave/training/stacking.py).

What few runs ask for stands in modules that no other loads: clipping.py, stacking.py, server_step.py.

Source: `fedavg`: arXiv 2401.09796; `ffa-lora`: Sun et al., arXiv 2403.12313.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from contracts.refusal import Refusal

MAX_SAMPLES = 1 << 40

State = dict[str, NDArray[Any]]
"""Tuned parameters; float64 where more precision than theirs is under way."""
Update = tuple[int, State]
"""A site's weight (its training rows, or fewer where weights are capped), and its tuned parameters."""


class Mean:
    """The mean of updates weighted by their samples, each added as it comes: of all of them one sum is
    kept.

    Sums run in float64 in the order of `add`, that of the site ids, so the same updates give the same bits.

    Source: McMahan et al., arXiv 1602.05629, algorithm 1.
    """

    def __init__(self) -> None:
        self.total = 0
        self._sums: State = {}

    def add(self, samples: int, state: State) -> None:
        """Raises: `aggregate.samples`, `tensors.names` or `tensors.shape`, with nothing added."""
        if not 0 < samples <= MAX_SAMPLES:
            raise Refusal("aggregate.samples", samples=samples)
        if not self.total:
            self._sums = {name: np.zeros(tensor.shape) for name, tensor in state.items()}
        if state.keys() != self._sums.keys():
            raise Refusal("tensors.names")
        if any(tensor.shape != self._sums[name].shape for name, tensor in state.items()):
            raise Refusal("tensors.shape")
        for name, tensor in state.items():
            self._sums[name] += np.multiply(tensor, samples, dtype=np.float64)
        self.total += samples

    def result(self, kind: DTypeLike = np.float32) -> State:
        """As numbers of this type; the sums are given up on the way, so this is asked once.

        Raises: `aggregate.nothing`.
        """
        if not self.total:
            raise Refusal("aggregate.nothing")
        return {name: (self._sums.pop(name) / self.total).astype(kind, copy=False) for name in [*self._sums]}
