"""Method 2 with batches of one site: one tail a site, and the mean of them. Runs inside the split server,
where the manifest asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from enclave.programs.program import Report
from enclave.slicing.adapters import tuned_state
from enclave.training.aggregate import Mean
from enclave.training.features import Shard
from enclave.training.loop import TrainOutcome
from enclave.training.tensors import State

if TYPE_CHECKING:
    from enclave.programs.tail import TailLearner


def train_apart(
    learner: TailLearner, round: int, shards: Mapping[str, list[Shard]], report: Report
) -> tuple[TrainOutcome, State]:
    """Each tail from the present parameters, on its site's shards."""
    start = tuned_state(learner.tail)
    results, mean = [], Mean()
    for site, own in shards.items():
        learner.start_from(start)
        result, state = learner.train_on(round, site, own, report)
        results.append(result)
        mean.add(result.samples, state)
    loss = sum(result.loss * result.samples for result in results) / mean.total
    return TrainOutcome(loss, mean.total, sum(result.seconds for result in results)), mean.result()
