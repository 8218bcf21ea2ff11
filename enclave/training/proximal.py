"""FedProx: each local step also minimises μ/2·‖w − w₀‖², where w₀ is what the round began with, so that
sites whose rows differ drift less far apart. Runs inside the enclave.

Source: Li et al., arXiv 1812.06127.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn


def proximal(parameters: Sequence[nn.Parameter], strength: float) -> Callable[[], None]:
    """What adds μ·(w − w₀) to the gradients that a backward pass has left; w₀ is the present."""
    start = [parameter.detach().clone() for parameter in parameters]

    @torch.no_grad()
    def pull() -> None:
        for parameter, begun in zip(parameters, start, strict=True):
            if parameter.grad is not None:
                parameter.grad.add_(parameter - begun, alpha=strength)

    return pull
