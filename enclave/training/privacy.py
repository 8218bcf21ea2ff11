"""Differential privacy: noise from the enclave's own randomness, and what it is worth.

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
import secrets
import warnings
from collections.abc import Callable

import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from torch import Tensor

from contracts.manifest import Privacy, Training
from contracts.refusal import Refusal

_DRAWS = 4
"""Draws a number is the sum of: the low bits of one draw alone can betray what it was added to (Mironov, CCS
2012; Holohan and Braghin, arXiv 2107.10138; opacus' secure mode does the same)."""

Words = Callable[[int], Tensor]


def secret_words(count: int) -> Tensor:
    """(count,) int64 uniform words: AES-256-CTR under a key drawn for this call from the system's
    randomness (the processor's, in an enclave)."""
    cipher = Cipher(algorithms.AES(secrets.token_bytes(32)), modes.CTR(bytes(16)))
    return torch.frombuffer(bytearray(cipher.encryptor().update(bytes(8 * count))), dtype=torch.int64)


def gaussian(shape: tuple[int, ...] | torch.Size, deviation: float, words: Words = secret_words) -> Tensor:
    """Float64 normal noise with mean 0 and this standard deviation."""
    total = torch.zeros(math.prod(shape), dtype=torch.float64)
    for _ in range(_DRAWS):
        middle = ((words(len(total)) & ((1 << 52) - 1)).double() + 0.5) / (1 << 52)  # inside (0, 1)
        total += torch.special.ndtri(middle)
    return (total * (deviation / math.sqrt(_DRAWS))).view(shape)


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
