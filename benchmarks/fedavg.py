"""The rule `fedavg` over updates that are all there: what the enclaves do with one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from enclave.training.aggregate import Mean, State, Update


def fedavg(updates: Sequence[Update]) -> State:
    """The `Mean` of updates in the order of the site ids, in the first one's number type; refuses as it
    does."""
    mean = Mean()
    for samples, state in updates:
        mean.add(samples, state)
    return mean.result(next(iter(updates[0][1].values())).dtype if updates else None)
