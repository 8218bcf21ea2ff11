"""The training loop of one site in one round, and the evaluation. Runs inside the enclave.

The same loop serves the client slice, the baselines and the benchmarks, so that they differ in nothing else.
On one machine with one number of threads its result is the same bit for bit: shuffling and dropout are drawn
from (seed, round, site) alone.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from peft.helpers import disable_input_dtype_casting
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from enclave.errors import Refusal
from enclave.manifest import Training
from enclave.training.data import IGNORED, Batch, Examples, evaluation_batches, training_batches
from enclave.training.metrics import Scores

MAX_GRADIENT_NORM = 1.0
EVALUATION_BATCH = 64


@dataclass(frozen=True)
class Progress:
    """How far a step is. `rows` of `total` are done (all epochs together); `loss` is the mean so far."""

    stage: str
    rows: int
    total: int
    loss: float
    rows_per_second: float


@dataclass(frozen=True)
class TrainResult:
    """`loss` is the mean over all rows and epochs, `samples` the number of training rows (the weight in
    FedAvg), `seconds` the wall-clock time."""

    loss: float
    samples: int
    seconds: float


Report = Callable[[Progress], None]


def train(
    model: nn.Module,
    examples: Examples,
    training: Training,
    *,
    round: int,
    site: str,
    progress: Report | None = None,
) -> TrainResult:
    """Train the model's trainable parameters in place for `local_epochs` with a fresh AdamW.

    Federated averaging starts every round from the average, so no optimizer state outlives a round (McMahan
    et al., arXiv 1602.05629). Refuses with `training.diverged`.
    """
    seed = derive_seed(training.seed, round, site)
    shuffle = random.Random(seed)  # noqa: S311  # the order of rows is no secret
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=training.learning_rate, weight_decay=0.0)
    total, done, loss_sum, started = len(examples) * training.local_epochs, 0, 0.0, time.monotonic()
    model.train()
    with torch.random.fork_rng(devices=[]), disable_input_dtype_casting(model, training.precision == "bf16"):
        torch.manual_seed(seed)
        for _ in range(training.local_epochs):
            for batch in training_batches(examples, training.batch_size, shuffle):
                with _precision(training.precision):
                    loss = _loss(_logits(model, batch), batch)[0]
                value = loss.item()
                if not torch.isfinite(loss):
                    raise Refusal("training.diverged")
                loss.backward()
                nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT_NORM)
                optimizer.step()
                optimizer.zero_grad()
                done, loss_sum = done + batch.rows, loss_sum + value * batch.rows
                _tell(progress, "training", done, total, loss_sum / done, started)
    model.eval()
    return TrainResult(loss_sum / max(done, 1), len(examples), time.monotonic() - started)


def evaluate(
    model: nn.Module,
    examples: Examples,
    *,
    labels: int,
    precision: str = "fp32",
    progress: Report | None = None,
) -> Scores:
    """Count what the model gets right. `labels` is the number of classes, 0 for a causal LM."""
    confusion = torch.zeros(labels, labels, dtype=torch.long)
    predictions, correct, loss_sum, done, started = 0, 0, 0.0, 0, time.monotonic()
    model.eval()
    with torch.inference_mode(), disable_input_dtype_casting(model, precision == "bf16"):
        for batch in evaluation_batches(examples, EVALUATION_BATCH):
            with _precision(precision):
                logits = _logits(model, batch)
            mean, guesses, targets = _loss(logits, batch)
            predictions += len(targets)
            correct += int((guesses == targets).sum())
            loss_sum += float(mean) * len(targets)
            if labels:
                confusion.view(-1).add_(torch.bincount(targets * labels + guesses, minlength=labels * labels))
            done += batch.rows
            _tell(progress, "evaluating", done, len(examples), loss_sum / max(predictions, 1), started)
    return Scores(len(examples), predictions, correct, loss_sum, tuple(map(tuple, confusion.tolist())))


def derive_seed(seed: int, round: int, site: str) -> int:
    """A seed of its own for every (seed, round, site): the first 8 bytes of a SHA-256."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{round}/{site}".encode()).digest()[:8])


def _logits(model: nn.Module, batch: Batch) -> Tensor:
    """(batch, labels), or (batch, tokens, vocabulary) of a causal LM."""
    logits: Tensor = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    return logits


def _loss(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Mean cross-entropy, predictions and targets, both (predictions,). A causal LM predicts next tokens."""
    targets = batch.targets
    if logits.dim() == 3:
        logits, targets = logits[:, :-1].flatten(0, 1), targets[:, 1:].flatten()
        logits, targets = logits[targets != IGNORED], targets[targets != IGNORED]
    if not len(targets):  # a batch of one-token texts predicts nothing
        return logits.sum() * 0.0, targets, targets
    return cross_entropy(logits.float(), targets), logits.argmax(-1), targets


def _precision(precision: str) -> AbstractContextManager[object]:
    return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")


def _tell(progress: Report | None, stage: str, done: int, total: int, loss: float, started: float) -> None:
    if progress is not None:
        seconds = max(time.monotonic() - started, 1e-9)
        progress(Progress(stage, done, total, loss, done / seconds))
