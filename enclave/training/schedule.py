"""The learning rate over a run. Runs inside the enclave, where the manifest has it change."""

from __future__ import annotations

import math

from torch.optim import Optimizer

from contracts.manifest import Training


def set_rate(optimizer: Optimizer, training: Training, rows: int, round: int, step: int) -> None:
    """Before a step: the rate that it takes."""
    for group in optimizer.param_groups:
        group["lr"] = training.learning_rate * share_of_rate(training, rows, round, step)


def share_of_rate(training: Training, rows: int, round: int, step: int) -> float:
    """Which fraction of the learning rate a step takes. `step` counts from 0 in its round; the schedule runs
    over all rounds, so a round that is done again, or alone, takes the same shares."""
    a_round = training.local_epochs * math.ceil(rows / training.batch_size)
    total, now = a_round * training.rounds, a_round * (round - 1) + step
    warm = training.warmup * total
    if now < warm:
        return min(1.0, (now + 1) / warm)
    past = (now - warm) / max(1.0, total - warm)
    if training.schedule == "linear":
        return max(0.0, 1.0 - past)
    if training.schedule == "cosine":
        return (1.0 + math.cos(math.pi * min(1.0, past))) / 2
    return 1.0
