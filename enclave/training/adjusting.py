"""What a manifest may have happen between a backward pass and the optimizer's step. Runs inside the enclave,
where one asks for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn
from torch.optim import Optimizer

from contracts.manifest import Training
from enclave.training.proximal import proximal
from enclave.training.schedule import set_rate


def adjusting(
    optimizer: Optimizer, parameters: Sequence[nn.Parameter], training: Training, rows: int, round: int
) -> Callable[[int], None]:
    """Called with a step's number in its round: it adds FedProx's pull to the gradients, and sets the rate.
    The present parameters are those that the round begins with."""
    pull = proximal(parameters, training.proximal) if training.proximal else None

    def adjust(step: int) -> None:
        if pull is not None:
            pull()
        set_rate(optimizer, training, rows, round, step)

    return adjust
