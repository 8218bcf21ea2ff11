"""What tables of a test are made of: how sure a classifier was of each row, counted in bins.

Counts alone, so that pooling adds them, as all scores (metrics.py). Of the label that the model holds the
likeliest: how many rows have a probability in each tenth, how many of these are right, and the sum of their
probabilities in thousandths (calibration). Of each label, how many of its own rows and how many of the others
have log-odds in each of ODDS bins (the area under its ROC curve). Loaded where a manifest asks for tables,
and there in the test alone. Runs inside the enclave.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from msgspec.structs import replace
from torch import Tensor, nn

from contracts.tables import LIMIT, ODDS, TENTHS, WIDTH
from enclave.training.loop import evaluate
from enclave.training.metrics import Scores

if TYPE_CHECKING:
    from enclave.training.material import Material


def evaluate_with_bins(model: nn.Module, examples: Material, *, labels: int, **how: Any) -> Scores:
    """As `loop.evaluate`, with `bins`."""
    tenths = torch.zeros(3, TENTHS, dtype=torch.long)
    odds = torch.zeros(labels, 2, ODDS, dtype=torch.long)

    def count(logits: Tensor, targets: Tensor) -> None:
        likely = torch.softmax(logits.double(), -1).nan_to_num(0.0).cpu()
        truth = targets.cpu()
        surest, guesses = likely.max(-1).values, logits.argmax(-1).cpu()
        tenth = (surest * TENTHS).long().clamp(0, TENTHS - 1)
        tenths[0].add_(torch.bincount(tenth, minlength=TENTHS))
        tenths[1].add_(torch.bincount(tenth[guesses == truth], minlength=TENTHS))
        tenths[2].index_add_(0, tenth, (surest * 1000).round().long())
        places = ((torch.logit(likely).clamp(-LIMIT, LIMIT) + LIMIT) / WIDTH).long().clamp(0, ODDS - 1)
        for label in range(labels):
            for which, rows in enumerate((truth == label, truth != label)):
                odds[label, which].add_(torch.bincount(places[rows, label], minlength=ODDS))

    scores = evaluate(model, examples, labels=labels, **how, count=count)
    rows = (*tenths.tolist(), *(row for label in odds.tolist() for row in label))
    return replace(scores, bins=tuple(map(tuple, rows)))
