"""What the manifest's aggregation makes of a round's contributions, and what the receipt says about it.

Runs inside the aggregator's enclave. Nothing here draws from the manifest's seed: without noise the same
contributions give the same bits, with noise never.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from contracts.manifest import Manifest
from contracts.receipts import Averaging, Spent
from enclave.programs.opening import Contribution
from enclave.training.aggregate import Update, clip, fedavg
from enclave.training.products import deviation, stack_svd
from enclave.training.tensors import State


@dataclass(frozen=True)
class Averaged:
    """The next global parameters (float32), how they were made, what noise the run has had so far, and
    metrics for the receipt."""

    state: State
    averaging: Averaging
    spent: Spent | None
    metrics: dict[str, float]


def average(
    manifest: Manifest,
    contributions: Sequence[Contribution],
    start: State | None,
    before: Spent | None,
    count: int,
) -> Averaged:
    """Clip, weigh, average by the rule, add noise: in this order.

    `start` is what the round began with (needed where the manifest clips), `before` what was spent until now.
    How many were clipped, and how far the factors' mean is from the products', the receipt does not tell
    where noise per site hides it, nor of fewer sites than scores are pooled over, of which so many
    `count` (contracts/counting.py): none where the roster lets nothing be pooled.
    """
    rules = manifest.aggregation
    samples = [item.enclosed.samples for item in contributions]
    weights = [min(count, rules.max_samples or count) for count in samples]
    states, cut = [item.state for item in contributions], None
    if rules.clip is not None:
        assert start is not None
        bounded = [clip(state, start, rules.clip) for state in states]
        states, cut = [state for state, _ in bounded], sum(was for _, was in bounded)
    updates = list(zip(weights, states, strict=True))
    state = stack_svd(updates) if rules.rule == "stack-svd" else fedavg(updates)
    metrics, noise = _deviations(rules.rule, updates, state), None
    noisy = rules.privacy is not None and rules.privacy.unit == "site"
    if noisy or count < manifest.publication.sites:
        cut, metrics = None, {}
    if rules.privacy is not None and noisy:
        from enclave.training.noise import gaussian, site_deviation

        assert rules.clip is not None
        noise = site_deviation(rules.privacy.noise, rules.clip, weights)
        state = {name: tensor + gaussian(tensor.shape, noise) for name, tensor in state.items()}
    return Averaged(
        {name: tensor.astype(np.float32) for name, tensor in state.items()},
        Averaging(
            rule=rules.rule,
            cohort=len(contributions),
            clip=rules.clip,
            clipped=cut,
            capped=sum(weight < count for weight, count in zip(weights, samples, strict=True)),
            noise=noise,
        ),
        _spend(manifest, contributions, before),
        metrics,
    )


def _deviations(rule: str, updates: Sequence[Update], state: State) -> dict[str, float]:
    """How far the result is from the mean of what the sites' LoRA pairs do; for stack-svd also what averaging
    the factors apart would have cost. Two digits: it is a number about parameters, told to everybody."""
    found = {"deviation": deviation(updates, state)}
    if rule == "stack-svd":
        found["deviation_of_factors"] = deviation(updates, fedavg(updates))
    return {name: float(f"{value:.2g}") for name, value in found.items() if value is not None}


def _spend(manifest: Manifest, contributions: Sequence[Contribution], before: Spent | None) -> Spent | None:
    if manifest.aggregation.privacy is None:
        return None
    from contracts.privacy import spend

    return spend(manifest, {item.site: item.enclosed.samples for item in contributions}, before)
