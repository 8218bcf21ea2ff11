"""The training loop of one round, and the evaluation. Runs inside the enclave.

The same loop serves the client slice, the split server's tail, the baselines and the benchmarks, so that they
differ in nothing else. What is trained with comes as a `Material`: rows, or packed features.
On one machine with one number of threads its result is the same bit for bit: shuffling and dropout are drawn
from (seed, round, site) alone.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from contracts.manifest import Training
from contracts.progress import Progress
from contracts.refusal import Refusal
from enclave.training.data import IGNORED
from enclave.training.metrics import Scores

if TYPE_CHECKING:
    from enclave.training.material import BatchLike, Material, Pieces

MAX_GRADIENT_NORM = 1.0
EVALUATION_BATCH = 16


@dataclass(frozen=True)
class TrainOutcome:
    """`loss` is the mean over all rows and epochs, `samples` the number of training rows (the weight in
    FedAvg), `seconds` the wall-clock time."""

    loss: float
    samples: int
    seconds: float


TrainReport = Callable[[Progress], None]


def train(
    model: nn.Module,
    examples: Material,
    training: Training,
    *,
    round: int,
    site: str,
    progress: TrainReport | None = None,
) -> TrainOutcome:
    """Train the model's trainable parameters in place for `local_epochs` with a fresh AdamW.

    Federated averaging starts every round from the average, so no optimizer state outlives a round. The
    loss is that of the rows, without a proximal term.

    Raises: `training.diverged`.

    Source: McMahan et al., arXiv 1602.05629.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=training.learning_rate, weight_decay=0.0)
    device = parameters[0].device
    adjust = None
    if training.proximal or (training.schedule, training.warmup) != ("constant", 0.0):
        from enclave.training.adjusting import adjusting

        adjust = adjusting(optimizer, parameters, training, len(examples), round)
    total, done, loss_sum, started = len(examples) * training.local_epochs, 0, 0.0, time.monotonic()
    model.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(training.seed, round, site))
        for step, pieces in enumerate(round_batches(examples, training, round=round, site=site)):
            value, rows = 0.0, sum(batch.rows for batch, _ in pieces)
            for batch, part in pieces:
                with precision_of(training.precision, device):
                    loss = batch_loss(batch_logits(model, batch, device), batch)[0] * part
                value += loss.item()
                if not torch.isfinite(loss):
                    raise Refusal("training.diverged")
                loss.backward()
            if adjust is not None:
                adjust(step)
            nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT_NORM)
            optimizer.step()
            optimizer.zero_grad()
            done, loss_sum = done + rows, loss_sum + value * rows
            _tell(progress, "training", done, total, started)
    model.eval()
    return TrainOutcome(loss_sum / max(done, 1), len(examples), time.monotonic() - started)


def evaluate(
    model: nn.Module,
    examples: Material,
    *,
    labels: int,
    precision: str = "fp32",
    progress: TrainReport | None = None,
    count: Callable[[Tensor, Tensor], None] = lambda _logits, _targets: None,
) -> Scores:
    """Count what the model gets right.

    Args: `labels` is the number of classes, 0 for a causal LM; `count` gets the logits and targets of each
    batch, as `batch_loss` does: (batch, …) of the model's dtype and int64.
    """
    confusion = torch.zeros(labels, labels, dtype=torch.long)
    predictions, correct, loss_sum, done, started = 0, 0, 0.0, 0, time.monotonic()
    answers: list[Tensor] = []
    device = next(model.parameters()).device
    model.eval()
    with torch.inference_mode():
        for batch in examples.evaluation_batches(EVALUATION_BATCH):
            with precision_of(precision, device):
                logits = batch_logits(model, batch, device)
            mean, guesses, targets = batch_loss(logits, batch)
            predictions += len(targets)
            correct += int((guesses == targets).sum())
            loss_sum += float(mean) * len(targets)
            count(logits, targets)
            if labels:
                cells = (targets * labels + guesses).cpu()
                confusion.view(-1).add_(torch.bincount(cells, minlength=labels * labels))
            else:
                of_rows = (batch.targets[:, 1:] != IGNORED).sum(1).tolist()
                answers += [row for row in (guesses == targets).split(of_rows) if len(row)]
            done += batch.rows
            _tell(progress, "evaluating", done, len(examples), started)
    table = tuple(map(tuple, confusion.tolist()))
    exact, ended = sum(bool(row.all()) for row in answers), sum(bool(row[-1]) for row in answers)
    return Scores(len(examples), predictions, correct, loss_sum, table, exact, ended)


def round_batches(examples: Material, training: Training, *, round: int, site: str) -> Iterator[Pieces]:
    """All batches of a round in their order, epoch after epoch: the same ones whoever asks. Each is in the
    pieces in which it goes through the model, with their shares of its loss: mostly in one."""
    shuffle = random.Random(derive_seed(training.seed, round, site))  # noqa: S311  # the order is no secret
    for _ in range(training.local_epochs):
        batches = examples.training_batches(training.batch_size, shuffle)
        if training.packing or training.at_once:
            from enclave.training.pieces import arranged

            yield from arranged(batches, training)
        else:
            yield from ([(batch, 1.0)] for batch in batches)


def derive_seed(seed: int, round: int, site: str) -> int:
    """A seed of its own for every (seed, round, site): the first 8 bytes of a SHA-256."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{round}/{site}".encode()).digest()[:8])


def batch_logits(model: nn.Module, batch: BatchLike, device: torch.device) -> Tensor:
    """What the model says, of a causal LM at `predicting` alone: the scores of a whole vocabulary at a
    place where nothing is learnt cost the most, and say nothing.

    Returns: (batch, labels), or of a causal LM (batch, places, vocabulary), in the model's dtype.
    """
    written = batch.targets.dim() == 2 and bool((batch.targets >= 0).any())
    keep = {"logits_to_keep": predicting(batch)} if written else {}
    logits: Tensor = model(**{name: value.to(device) for name, value in (batch.inputs | keep).items()}).logits
    return logits


def batch_loss(logits: Tensor, batch: BatchLike) -> tuple[Tensor, Tensor, Tensor]:
    """Mean cross-entropy. A causal LM predicts next tokens; where targets are negative, several labels or
    tags are predicted (coded.py).

    Args: `logits` as `batch_logits` gives them, (batch, …) in the model's dtype.

    Returns: the loss, a () float32; predictions and targets, (predictions,) int64.
    """
    targets = batch.targets.to(logits.device)
    if (batch.targets < 0).all():
        from enclave.training.coded import loss_of_coded

        return loss_of_coded(logits, targets)
    if logits.dim() == 3:
        logits, targets = logits.flatten(0, 1), targets[:, predicting(batch) + 1].flatten()
        logits, targets = logits[targets != IGNORED], targets[targets != IGNORED]
    if not len(targets):  # a batch of one-token texts predicts nothing
        return logits.sum() * 0.0, targets, targets
    return cross_entropy(logits.float(), targets), logits.argmax(-1), targets


def predicting(batch: BatchLike) -> Tensor:
    """The places after which one of the rows has a token that is learnt.

    Returns: (places,) int64.
    """
    return (batch.targets[:, 1:] != IGNORED).any(0).nonzero()[:, 0]


def precision_of(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The context in which a forward pass runs."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def _tell(progress: TrainReport | None, stage: str, done: int, of: int, started: float) -> None:
    if progress is not None:
        progress(Progress(stage, done, of, round(done / max(time.monotonic() - started, 1e-9), 2)))
