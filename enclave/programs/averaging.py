"""What the manifest's aggregation makes of a round's contributions, and what the receipt says about it.

Runs inside the aggregator's enclave. Nothing here draws from the manifest's seed: without noise the same
contributions give the same bits, with noise never.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from contracts.manifest import Manifest
from contracts.receipts import Averaging, Spent
from enclave.training.aggregate import Mean, Update
from enclave.training.products import A, B, deviation
from enclave.training.tensors import State

KEPT_BYTES = 32 << 20
"""All sites' LoRA pairs together, up to which their deviation is computed: its memory and time grow with the
sites (10 s of 200 sites' 2 MB), and no promise rests on it."""


class Averaged(NamedTuple):
    """The next global parameters (float32), how they were made, what noise the run has had so far, metrics
    for the receipt, and the moments of the server's optimizer."""

    state: State
    averaging: Averaging
    spent: Spent | None
    metrics: dict[str, float]
    moments: State


class Averager:
    """A round's contributions, each clipped, weighed, added and forgotten: what is kept is one sum, whatever
    the number of sites.

    Two things need the LoRA pairs of all sites side by side, and keep them: the rule stack-svd, and the
    `deviation` of few small ones (KEPT_BYTES). Nothing is told of a sum before `average`.
    """

    def __init__(self, manifest: Manifest, sites: int) -> None:
        self._manifest = manifest
        self._sites = sites
        self._mean = Mean()
        self._rows: dict[str, tuple[int, int]] = {}  # site -> its rows, and as how many they count
        self._clipped = 0
        self._kept: list[Update] = []

    def add(self, site: str, samples: int, state: State, start: State | None) -> None:
        """`start` is what the round began with; it is needed where the manifest clips."""
        rules = self._manifest.aggregation
        weight = min(samples, rules.max_samples or samples)
        if rules.clip is not None:
            from enclave.training.clipping import clip

            assert start is not None
            state, was = clip(state, start, rules.clip)
            self._clipped += was
        self._mean.add(weight, state)
        pairs = {name: tensor for name, tensor in state.items() if name.endswith((A, B))}
        size = self._sites * sum(tensor.nbytes for tensor in pairs.values())
        if rules.rule == "stack-svd" or (rules.rule == "fedavg" and size <= KEPT_BYTES):
            # Copied, as each lies in a whole contribution.
            self._kept.append((weight, {name: tensor.copy() for name, tensor in pairs.items()}))
        self._rows[site] = samples, weight

    def average(self, spent: Spent | None, count: int, start: State | None, moments: State) -> Averaged:
        """The mean by the rule, then noise, then the step of the server's optimizer from `start`, what the
        round began with. `spent` and `moments` are what was until now.

        How many were clipped, and how far the factors' mean is from the products', the receipt does not tell
        where noise per site hides it, nor of fewer sites than scores are pooled over, of which so many
        `count` (contracts/counting.py): none where the roster lets nothing be pooled.
        """
        rules = self._manifest.aggregation
        mean = self._mean.result(np.float32 if rules.clip is rules.optimizer is None else np.float64)
        state = mean
        if rules.rule == "stack-svd":
            from enclave.training.stacking import stack_svd

            state = stack_svd(self._kept, mean)
        noisy, noise = rules.privacy is not None and rules.privacy.unit == "site", None
        shown = not noisy and count >= self._manifest.publication.sites
        metrics = _deviations(rules.rule, self._kept, state, mean) if shown and self._kept else {}
        if rules.privacy is not None:
            from contracts.privacy import spend

            spent = spend(self._manifest, {site: rows for site, (rows, _) in self._rows.items()}, spent)
        if noisy:
            from enclave.training.noise import hide_sites

            state, noise = hide_sites(state, rules, [weight for _, weight in self._rows.values()])
        if rules.optimizer is not None:
            from enclave.training.server_step import server_step

            assert start is not None
            state, moments = server_step(rules.optimizer, start, state, moments)
        return Averaged(
            {name: tensor.astype(np.float32, copy=False) for name, tensor in state.items()},
            Averaging(
                rule=rules.rule,
                cohort=len(self._rows),
                clip=rules.clip,
                clipped=self._clipped if shown and rules.clip is not None else None,
                capped=sum(weight < rows for rows, weight in self._rows.values()),
                noise=noise,
            ),
            spent,
            metrics,
            moments,
        )


def _deviations(rule: str, updates: Sequence[Update], state: State, mean: State) -> dict[str, float]:
    """How far the result is from the mean of what the sites' LoRA pairs do; for stack-svd also what averaging
    the factors apart would have cost. Two digits: it is a number about parameters, told to everybody."""
    found = {"deviation": deviation(updates, state)}
    if rule == "stack-svd":
        found["deviation_of_factors"] = deviation(updates, mean)
    return {name: float(f"{value:.2g}") for name, value in found.items() if value is not None}
