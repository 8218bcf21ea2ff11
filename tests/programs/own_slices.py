"""Client slices inside the test, for promises about an aggregator alone: a process with torch takes seconds.

Their keys are admitted like any others, which only development evidence allows; what they seal was computed
by the program's own learner.
"""

from __future__ import annotations

from contracts.receipts import NO_RECEIPT
from contracts.round_kind import kind_of
from enclave.programs.contributions import Enclosed, shows_start, with_start
from tests.programs.conftest import DATASET_KEY, SITES, hash_of


class OwnSlices:
    """One slice a site, of one run and its aggregator."""

    def __init__(self, world, aggregator, sites=SITES) -> None:
        from enclave.programs.learner import load_learner

        self.world, self.aggregator = world, aggregator
        model, rows = world.house.model, world.house.rows
        self.learners = {
            site: load_learner(world.manifest, site, model, rows[site], DATASET_KEY) for site in sites
        }
        self.identities = {site: world.rogue(aggregator, site) for site in sites}

    def train(self, round, state=None, previous=NO_RECEIPT) -> dict[str, str]:
        """What every site makes of `state` (None: the initial one); the files lie in the aggregator's
        mailbox."""
        return {site: self._answer(site, round, state, previous) for site in self.learners}

    def round(self, round, state=None, previous=NO_RECEIPT) -> dict:
        """A whole round; returns the aggregator's result."""
        roster = self.world.roster(round, self.train(round, state, previous), previous)
        return self.aggregator.call("aggregate", round=round, **roster)

    def whole_run(self) -> list[dict]:
        """All rounds, the closing one and the test; returns the aggregator's results."""
        results, state, previous = [], None, NO_RECEIPT
        manifest = self.world.manifest
        for number in (*range(1, manifest.training.rounds + 2), manifest.last_round):
            results.append(self.round(number, state, previous))
            state = self.world.parameters(self.aggregator, results[-1]["state"]["sha256"])
            previous = hash_of(results[-1]["receipt"])
        return results

    def _answer(self, site, round, state, previous) -> str:
        learner = self.learners[site]
        learner.start_from(state)
        kind = kind_of(self.world.manifest, round)
        scores, samples, update = learner.evaluate(kind, _silent), 0, {}
        if kind == "update":
            outcome, update = learner.train(round, _silent)
            samples = outcome.samples
            if shows_start(self.world.manifest, previous):
                update = with_start(update, learner.initial)
        enclosed = Enclosed(previous, samples, scores)
        return self.world.contribute(self.aggregator, self.identities[site], site, round, enclosed, update)


def _silent(_progress) -> None:
    """Nobody waits for news."""
