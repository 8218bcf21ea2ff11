"""Bounding what one site can change in a round. Runs inside the aggregator, where the manifest clips."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enclave.training.aggregate import State


def clip(state: State, start: Mapping[str, NDArray[Any]], bound: float) -> tuple[State, bool]:
    """Bound the L2 norm of the change from `start` to `state`, over all tensors together.

    A change within the bound keeps its exact values.

    Args: `start` and `state` map names to arrays of one shape (…), float32 or float64; `bound` is in the
    parameters' own unit.

    Returns: the state in float64, shapes (…) as given, shortened towards `start` where the change was
    longer than `bound`, and whether it was.

    Source: McMahan et al., arXiv 1710.06963.
    """
    changes = {name: tensor.astype(np.float64) - start[name] for name, tensor in state.items()}
    norm = math.sqrt(math.fsum(float(np.square(change).sum()) for change in changes.values()))
    if norm <= bound:
        return {name: tensor.astype(np.float64) for name, tensor in state.items()}, False
    scale = bound / norm
    return {name: start[name] + change * scale for name, change in changes.items()}, True
