"""Epsilon of Gaussian steps, by dp-accounting's RDP accountant (Mironov, arXiv 1702.07476; sampled steps:
Mironov, Talwar and Zhang, arXiv 1908.10530).

Epsilon says how far anyone who sees the parameters after every round can tell two neighbouring runs apart: at
most by the factor exp(epsilon), but for a chance delta. Scores on held-out rows are not covered by it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from functools import lru_cache

from msgspec import Struct

from contracts.manifest import Privacy, Training
from contracts.privacy import of_round
from contracts.receipts import Spent
from contracts.refusal import Refusal


class Gaussian(Struct, frozen=True):
    """`steps` steps with noise of `noise` sensitivities, each over a secret draw with probability `rate`."""

    noise: float
    rate: float
    steps: int


def epsilon(done: Iterable[Gaussian], delta: float) -> float:
    """Epsilon at `delta` of all these together, one after the other on the same records; 0 for none.

    Raises Refusal("privacy.no_account") where the accountant cannot tell.
    """
    return _compose(tuple(done), delta)


def spent_by(spent: Spent, site: str) -> list[Gaussian]:
    """The steps of one site that a receipt states."""
    return [Gaussian(spent.noise, part.rate, part.steps) for part in spent.sites if part.site == site]


def spent_so_far(spent: Spent) -> float:
    """Epsilon that a receipt's parameters come to, of the site where it is worst. Raises as `epsilon`."""
    return max(epsilon(spent_by(spent, site), spent.delta) for site in {part.site for part in spent.sites})


def planned(privacy: Privacy | None, training: Training, rows: int) -> list[Gaussian]:
    """The steps of all rounds of a manifest with this noise and training, for a site with so many training
    rows (they matter to the unit `record` alone); empty without noise."""
    if privacy is None:
        return []
    rate, steps = of_round(privacy, training, rows)
    return [Gaussian(privacy.noise, rate, steps * training.rounds)]


@lru_cache(maxsize=4096)
def _compose(done: tuple[Gaussian, ...], delta: float) -> float:
    if not done:
        return 0.0
    # Slow to import, and few pages and runs have noise.
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
    from dp_accounting.rdp import RdpAccountant

    logging.getLogger("absl").setLevel(logging.ERROR)  # it warns of each order that it leaves out
    accountant = RdpAccountant()
    try:
        for part in done:
            event = GaussianDpEvent(part.noise)
            sampled = event if part.rate == 1.0 else PoissonSampledDpEvent(part.rate, event)
            accountant.compose(sampled, part.steps)
        found = float(accountant.get_epsilon(delta))
    except (RuntimeError, ValueError, ArithmeticError) as error:
        raise Refusal("privacy.no_account") from error
    if not math.isfinite(found):
        raise Refusal("privacy.no_account")
    return found
