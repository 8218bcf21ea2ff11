"""What scores come to: accuracy, macro-F1 and loss of a classifier; loss, token accuracy, and shares of rows
of a causal LM."""

from __future__ import annotations

import math

from enclave.training.metrics import Scores


def accuracy(scores: Scores) -> float:
    """Share of right predictions; of tokens for a causal LM."""
    return scores.correct / scores.predictions if scores.predictions else 0.0


def loss(scores: Scores) -> float:
    """Mean cross-entropy in nats."""
    return scores.loss_sum / scores.predictions if scores.predictions else 0.0


def fraction(scores: Scores, count: int) -> float:
    """Of the rows."""
    return count / scores.rows if scores.rows else 0.0


def macro_f1(scores: Scores) -> float:
    """Unweighted mean of F1 over the labels that occur as truth or as prediction (as in scikit-learn)."""
    found = []
    for label, row in enumerate(scores.confusion):
        claims = sum(other[label] for other in scores.confusion)
        if sum(row) + claims:
            found.append(2 * row[label] / (sum(row) + claims))
    return math.fsum(found) / len(found) if found else 0.0
