"""Scores as counts; what they come to is in rates.py, for servers.

A model that writes the likeliest token each time writes exactly a row's answer if, and only if, each of its
tokens is the likeliest after those before it. So exact matches are counted where the loss is, with all rows,
and nothing is generated.

Only counts and loss sums are kept, so that the pooled score of several sites is exactly the score of their
joined rows: pooling adds counts. Counts are as private as label counts: they travel sealed between enclaves,
and servers pool them and tell others of them (`programs.publication`).
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=0, lt=2**53)]


class Scores(Struct, frozen=True, forbid_unknown_fields=True):
    """What an evaluation counted. `predictions` are rows for a classifier and tokens for a causal LM;
    `loss_sum` is in nats over them. `confusion[truth][predicted]` counts rows; a causal LM has none. Of its
    rows, `exact` are written as they stand, every learnt token and the end, and `ended` end where they do:
    their last learnt token is the likeliest after the others. `bins` are of a test whose tables are told
    (tables.py)."""

    rows: Count
    predictions: Count
    correct: Count
    loss_sum: float
    confusion: tuple[tuple[Count, ...], ...] = ()
    exact: Count = 0
    ended: Count = 0
    bins: tuple[tuple[Count, ...], ...] = ()
