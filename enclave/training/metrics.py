"""Scores as counts: accuracy, macro-F1 and loss of a classifier; loss, token accuracy, exact matches and
stops of a causal LM.

A model that writes the likeliest token each time writes exactly a row's answer if, and only if, each of its
tokens is the likeliest after those before it. So exact matches are counted where the loss is, with all rows,
and nothing is generated.

Only counts and loss sums are kept, so that the pooled score of several sites is exactly the score of their
joined rows: pooling adds counts. Counts are as private as label counts: they travel sealed between enclaves,
and servers pool them and tell others of them (`programs.publication`).
"""

from __future__ import annotations

import math
from typing import Annotated

from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=0, lt=2**53)]


class Scores(Struct, frozen=True, forbid_unknown_fields=True):
    """What an evaluation counted. `predictions` are rows for a classifier and tokens for a causal LM;
    `loss_sum` is in nats over them. `confusion[truth][predicted]` counts rows; a causal LM has none. Of its
    rows, `exact` are written as they stand, every learnt token and the end, and `ended` end where they do:
    their last learnt token is the likeliest after the others."""

    rows: Count
    predictions: Count
    correct: Count
    loss_sum: float
    confusion: tuple[tuple[Count, ...], ...] = ()
    exact: Count = 0
    ended: Count = 0

    @property
    def accuracy(self) -> float:
        """Share of right predictions; of tokens for a causal LM."""
        return self.correct / self.predictions if self.predictions else 0.0

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats."""
        return self.loss_sum / self.predictions if self.predictions else 0.0

    def share(self, count: int) -> float:
        """Of the rows."""
        return count / self.rows if self.rows else 0.0

    @property
    def macro_f1(self) -> float:
        """Unweighted mean of F1 over the labels that occur as truth or as prediction (as in scikit-learn)."""
        scores = []
        for label, row in enumerate(self.confusion):
            claims = sum(other[label] for other in self.confusion)
            if sum(row) + claims:
                scores.append(2 * row[label] / (sum(row) + claims))
        return math.fsum(scores) / len(scores) if scores else 0.0
