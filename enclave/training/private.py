"""DP-SGD: training whose result says little about any one record.

Each step draws every row with the same probability, secretly; clips each row's own gradient; adds noise to
their sum. Rows go through the model one by one: slower than one padded batch, and exact for every adapter
and architecture, with nothing of another row (padding) in a gradient. Runs inside the client slice's
enclave.

Source: Abadi et al., arXiv 1607.00133.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from contracts.manifest import Privacy, Training
from contracts.privacy import rate, steps
from contracts.progress import Progress
from contracts.refusal import Refusal
from enclave.training.data import Examples, collate
from enclave.training.loop import TrainOutcome, TrainReport, batch_logits, batch_loss, precision_of
from enclave.training.noise import gaussian, secret_words


def train_privately(
    model: nn.Module,
    examples: Examples,
    training: Training,
    privacy: Privacy,
    *,
    progress: TrainReport | None = None,
) -> TrainOutcome:
    """Train as `loop.train` does, with the noise of `privacy` (unit `record`). Never the same twice.

    The loss that it returns is that of the drawn rows, and is not covered by epsilon: it stays in the
    enclave.

    Raises: `training.diverged`.
    """
    assert privacy.gradient_clip is not None
    clip, rows = privacy.gradient_clip, len(examples)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=training.learning_rate, weight_decay=0.0)
    drawn, wanted = rate(rows, training), steps(rows, training)
    expected = drawn * rows
    if training.proximal:
        from enclave.training.proximal import proximal

        pull = proximal(parameters, training.proximal)
    seen, loss_sum, started = 0, 0.0, time.monotonic()
    model.train()
    for step in range(1, wanted + 1):
        batch = draw(rows, drawn)
        sums, loss = clipped_sum(model, parameters, examples, batch, clip, training.precision)
        for parameter, total in zip(parameters, sums, strict=True):
            noise = torch.from_numpy(gaussian(tuple(total.shape), privacy.noise * clip))
            parameter.grad = ((total + noise) / expected).to(parameter.dtype)
        if training.proximal:  # of no row: what it is computed from is noisy already
            pull()
        optimizer.step()
        optimizer.zero_grad()
        seen, loss_sum = seen + len(batch), loss_sum + loss
        if progress is not None:
            done = rows * training.local_epochs * step // wanted
            speed = done / max(time.monotonic() - started, 1e-9)  # how many were drawn stays inside
            progress(Progress("training", done, rows * training.local_epochs, round(speed, 2)))
    model.eval()
    return TrainOutcome(loss_sum / max(seen, 1), rows, time.monotonic() - started)


def draw(rows: int, probability: float) -> list[int]:
    """The indices of the rows that a step takes: each with this probability, apart from all others."""
    if probability >= 1.0:
        return list(range(rows))
    chosen = (secret_words(rows) & ((1 << 53) - 1)) < math.ceil(probability * (1 << 53))
    return [int(index) for index in chosen.nonzero()[0]]


def clipped_sum(
    model: nn.Module,
    parameters: Sequence[nn.Parameter],
    examples: Examples,
    indices: Sequence[int],
    clip: float,
    precision: str = "fp32",
) -> tuple[list[Tensor], float]:
    """Σ over the rows of their own gradients, each shortened to the L2 norm `clip`.

    Returns: float64, one tensor a parameter, of its shape (…); and the sum of the rows' losses.

    Raises: `training.diverged`.
    """
    sums = [torch.zeros(parameter.shape, dtype=torch.float64) for parameter in parameters]
    loss_sum, device = 0.0, parameters[0].device
    for index in indices:
        batch = collate(examples, [index])
        with precision_of(precision, device):
            loss = batch_loss(batch_logits(model, batch, device), batch)[0]
        if not torch.isfinite(loss):
            raise Refusal("training.diverged")
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        gradients = [None if gradient is None else gradient.double() for gradient in found]
        norm = math.sqrt(math.fsum(float(g.square().sum()) for g in gradients if g is not None))
        if not math.isfinite(norm):
            raise Refusal("training.diverged")
        scale = min(1.0, clip / norm) if norm else 0.0
        for total, gradient in zip(sums, gradients, strict=True):
            if gradient is not None:
                total.add_(gradient, alpha=scale)
        loss_sum += loss.item()
    return sums, loss_sum
