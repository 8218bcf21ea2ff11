"""Aggregation rules. Run inside the aggregator's enclave, which alone sees more than one site's update.

Averaging the LoRA factors A and B apart is the paper's rule; the mean of the products differs from the
product of the means (DESIGN.md, decision 10).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from enclave.errors import Refusal

MAX_SAMPLES = 1 << 40


def fedavg(updates: Sequence[tuple[int, dict[str, Tensor]]]) -> dict[str, Tensor]:
    """The mean of the updates weighted by their samples (McMahan et al., arXiv 1602.05629, algorithm 1).

    `updates` holds (samples, float32 state) in the order of the site ids; sums run in that order in float64,
    so the same updates give the same bits. Refuses with `aggregate.nothing`, `aggregate.samples`,
    `tensors.names` or `tensors.shape`.
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
    mean: dict[str, Tensor] = {}
    for name, tensor in template.items():
        accumulated = torch.zeros(tensor.shape, dtype=torch.float64)
        for samples, state in updates:
            accumulated += state[name].double() * samples
        mean[name] = (accumulated / total).to(tensor.dtype)
    return mean
