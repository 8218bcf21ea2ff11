"""What noise a run's parameters had so far, as receipts state it: mechanism, noise multiplier, sampling
rate, steps and delta. What that is worth (epsilon) is computed from it outside of enclaves:
`privacy_accounting`.

Two units, with formulas of their own; a record is a training row.

- `site`: two runs are neighbours if in one of them a site's changes are replaced by none. Who takes part and
  with how many rows is public. One Gaussian step for each round that a site was in, nothing sampled.
- `record`: neighbours differ by one training row. Each step draws every row with probability
  `rate`, secretly (Poisson sampling).

Source: Abadi et al., arXiv 1607.00133.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from contracts.manifest import Manifest, Privacy, Training
from contracts.receipts import NoisySteps, Spent


def rate(rows: int, training: Training) -> float:
    """The probability with which a step of DP-SGD draws a record."""
    return min(1.0, training.batch_size / rows)


def steps(rows: int, training: Training) -> int:
    """Noisy steps of DP-SGD of a site in a round."""
    return training.local_epochs * math.ceil(rows / training.batch_size)


def of_round(privacy: Privacy, training: Training, rows: int) -> tuple[float, int]:
    """(rate, steps) of a site with so many training rows in a round."""
    return (1.0, 1) if privacy.unit == "site" else (rate(rows, training), steps(rows, training))


def spend(manifest: Manifest, rows: Mapping[str, int], before: Spent | None) -> Spent | None:
    """What the receipt of a round states whose contributors have so many training `rows`, after what the
    receipt `before` stated; None where the manifest has no noise."""
    privacy = manifest.aggregation.privacy
    if privacy is None:
        return None
    done: Counter[tuple[str, float]] = Counter()
    for part in () if before is None else before.sites:
        done[part.site, part.rate] += part.steps
    for site, count in rows.items():
        drawn, taken = of_round(privacy, manifest.training, count)
        done[site, drawn] += taken
    return Spent(
        unit=privacy.unit,
        mechanism="gaussian" if privacy.unit == "site" else "poisson-sampled-gaussian",
        noise=privacy.noise,
        delta=privacy.delta,
        rounds=1 if before is None else before.rounds + 1,
        sites=tuple(NoisySteps(site, drawn, taken) for (site, drawn), taken in sorted(done.items())),
    )
