"""Rows that may have several labels, or none: each label is decided for itself (a sigmoid, not a softmax).

A row's target is one number, `~bits`: bit i of `bits` says that it has the label with the id i. It is
negative, so it is taken for no label's id, and at most 31 labels fit a shard's int32. Loaded by runs over
datasets of the kind `text-labels` alone. Runs inside the enclave, and at the site where features are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from msgspec.structs import replace
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import PreTrainedTokenizerBase

from contracts.manifest import ModelSpec
from contracts.rows import Row, TextLabels
from contracts.tables import LIMIT, ODDS, TENTHS, WIDTH
from enclave.training.data import Examples
from enclave.training.loop import evaluate
from enclave.training.metrics import Scores
from enclave.training.texts import tokenise

if TYPE_CHECKING:
    from enclave.training.material import Material


def encode_several(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, spec: ModelSpec) -> Examples:
    """As `reading.encode`."""
    known = spec.classes
    labelled = [row for row in rows if isinstance(row, TextLabels)]
    found = tokenise(tokenizer, [row.text for row in labelled], None, spec.max_tokens)
    targets = [~sum(1 << number for number in {known[label] for label in row.labels}) for row in labelled]
    return Examples(found.ids, targets, tokenizer.pad_token_id, found.segments, found.cut)


def bits_of(targets: Tensor, labels: int) -> Tensor:
    """1 where a row has the label.

    Args: `targets` (rows,) int64, coded as rows are.

    Returns: (rows, labels) int64.
    """
    return (~targets.unsqueeze(1) >> torch.arange(labels, device=targets.device)) & 1


def loss_of_several(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean binary cross-entropy over all rows and labels.

    Args: `logits` (rows, labels) in the model's dtype; `targets` (rows,) int64.

    Returns: the loss, a () float32; decisions and truth, (rows · labels,) int64.
    """
    truth = bits_of(targets, logits.shape[1])
    mean = binary_cross_entropy_with_logits(logits.float(), truth.float())
    return mean, (logits > 0).long().flatten(), truth.flatten()


def evaluate_several(
    model: nn.Module, examples: Material, *, labels: int, tables: bool = False, **how: Any
) -> Scores:
    """As `loop.evaluate`, of decisions: `predictions` are rows times labels, `exact` counts rows whose labels
    are all right, `confusion` has for each label [has it and is said to, has it, is said to, neither]. With
    `tables`, `bins` are as in tables.py, of the probability that a row has a label."""
    counts = torch.zeros(labels, 4, dtype=torch.long)
    tenths = torch.zeros(3, TENTHS, dtype=torch.long)
    odds = torch.zeros(labels, 2, ODDS, dtype=torch.long)
    exact = 0

    def count(logits: Tensor, flat: Tensor) -> None:
        nonlocal exact
        logits, truth = logits.double().nan_to_num(0.0).cpu(), flat.view(-1, labels).cpu()
        said = (logits > 0).long()
        exact += int((said == truth).all(1).sum())
        cells = 3 - 2 * truth - said  # has it and is said to: 0
        likely = torch.sigmoid(logits)
        tenth = (likely * TENTHS).long().clamp(0, TENTHS - 1)
        tenths[0].add_(torch.bincount(tenth.flatten(), minlength=TENTHS))
        tenths[1].add_(torch.bincount(tenth[truth == 1], minlength=TENTHS))
        tenths[2].index_add_(0, tenth.flatten(), (likely * 1000).round().long().flatten())
        places = ((logits.clamp(-LIMIT, LIMIT) + LIMIT) / WIDTH).long().clamp(0, ODDS - 1)
        for label in range(labels):
            counts[label].add_(torch.bincount(cells[:, label], minlength=4))
            for which in (0, 1):
                rows = truth[:, label] == 1 - which
                odds[label, which].add_(torch.bincount(places[rows, label], minlength=ODDS))

    scores = evaluate(model, examples, labels=2, **how, count=count)
    bins = (*tenths.tolist(), *(row for label in odds.tolist() for row in label)) if tables else ()
    table = tuple(map(tuple, counts.tolist()))
    return replace(scores, confusion=table, exact=exact, bins=tuple(map(tuple, bins)))
