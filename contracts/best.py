"""Which round of a run is the best, by its receipts alone: enclaves choose by this, and all others compute it
again (contracts/receipt_chain.py).

The scores in a receipt are of the parameters that its round began with, those of the receipt before it. Of
rounds with equal losses the later one is better: published losses are coarse, and within a step of them more
training does no harm. Test rows decide nothing.
"""

from __future__ import annotations

import math

from contracts.receipts import Best, Receipt
from contracts.round_kind import Kind


def best_after(
    kind: Kind, before: Receipt | None, name: str, loss: float | None, *, withheld: bool
) -> Best | None:
    """The best round after one of this kind, which continues the receipt `before` with the hash `name` and
    publishes this loss (None: it tells none, or it is no number).

    The initial parameters are no round's. Where the closing round withholds its scores, nothing can be said
    of the last parameters, and they stand: a round that was scored is not preferred to one that was not.
    """
    if before is None or (kind == "closing" and withheld):
        return None
    loss = math.inf if loss is None else loss
    if kind == "test" or loss == math.inf or (before.best is not None and loss > before.best.loss):
        return before.best
    return Best(name, before.round, loss)
