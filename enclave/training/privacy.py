"""Differential privacy: how much noise, and what it is worth (the noise itself: noise.py).

Epsilon says how far anyone who sees all tuned parameters of a run (after every round) can tell two runs
apart: at most by the factor exp(epsilon), but for a chance delta. Which two runs is the *unit*.

- `site`: in one of them a site's changes are replaced by none. Who takes part and with how many rows is
  public (the receipts say it), so the sensitivity of the mean is clip · largest weight / sum of weights.
- `record`: one training row more or less at a site, drawn for each step with probability rate = batch size /
  rows (Poisson sampling, secret) (Abadi et al., arXiv 1607.00133).

Scores on held-out rows are not covered by it. The accountants are opacus'.
"""

from __future__ import annotations

import math
import warnings

from contracts.manifest import Privacy, Training
from contracts.refusal import Refusal


def site_deviation(noise: float, clip: float, weights: list[int]) -> float:
    """Standard deviation of the noise on each number of the mean, for the unit `site`."""
    return noise * clip * max(weights) / sum(weights)


def rate(rows: int, training: Training) -> float:
    """The probability with which a step draws a record."""
    return min(1.0, training.batch_size / rows)


def steps(rows: int, training: Training) -> int:
    """Noisy steps of a site in a round."""
    return training.local_epochs * math.ceil(rows / training.batch_size)


def epsilon(privacy: Privacy, training: Training, rounds: int, rows: int) -> float:
    """Epsilon at the manifest's delta after so many noisy rounds; `rows` of the site matter to the unit
    `record` alone. Refuses with `privacy.no_account` where the accountant cannot tell."""
    from opacus.accountants import PRVAccountant, RDPAccountant  # imports slowly, and few runs have noise

    drawn, taken = (1.0, rounds) if privacy.unit == "site" else (rate(rows, training), 0)
    taken = taken or rounds * steps(rows, training)
    accountant = PRVAccountant() if privacy.accountant == "prv" else RDPAccountant()
    accountant.history = [(privacy.noise, drawn, taken)]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on the orders that it tried
            found = float(accountant.get_epsilon(delta=privacy.delta))
    except (RuntimeError, ValueError, ArithmeticError) as error:
        raise Refusal("privacy.no_account", accountant=privacy.accountant) from error
    if not math.isfinite(found):
        raise Refusal("privacy.no_account", accountant=privacy.accountant)
    return found
