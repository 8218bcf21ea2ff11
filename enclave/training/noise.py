"""Gaussian noise from the enclave's own randomness: AES-256-CTR words through the normal quantile function.

Never from numpy's or torch's generator, whose state can be computed from what it has given out. Runs inside
the aggregator (noise per site) and the client slice (noise per record).
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from contracts.manifest import Aggregation
from enclave.training.aggregate import State

_DRAWS = 4
"""Draws a number is the sum of: the low bits of one draw alone can betray what it was added to (Mironov, CCS
2012; Holohan and Braghin, arXiv 2107.10138)."""
_BLOCK = 1 << 13
"""Numbers at a time: they stay in the processor's cache, and little memory is taken."""

Words = Callable[[int], NDArray[np.int64]]
Floats = NDArray[np.float64]


def secret_words(count: int) -> NDArray[np.int64]:
    """Uniform words: AES-256-CTR under a key drawn for this call from the system's randomness (the
    processor's, in an enclave).

    Returns: (count,) int64.
    """
    cipher = Cipher(algorithms.AES(secrets.token_bytes(32)), modes.CTR(bytes(16)))
    return np.frombuffer(cipher.encryptor().update(bytes(8 * count)), np.int64)


def gaussian(shape: tuple[int, ...], deviation: float, words: Words = secret_words) -> Floats:
    """Float64 normal noise with mean 0 and this standard deviation."""
    total = np.zeros(math.prod(shape))
    for _ in range(_DRAWS):
        drawn = words(len(total))
        for start in range(0, len(total), _BLOCK):
            block = drawn[start : start + _BLOCK] & ((1 << 52) - 1)
            total[start : start + _BLOCK] += normal_quantile((block + 0.5) / (1 << 52))  # inside (0, 1)
    return (total * (deviation / math.sqrt(_DRAWS))).reshape(shape)


def hide_sites(state: State, rules: Aggregation, weights: list[int]) -> tuple[State, float]:
    """The mean with noise of the unit `site`, and the deviation of that noise. A manifest with it has a clip
    (contracts/manifest_options.py)."""
    assert rules.privacy is not None and rules.clip is not None
    deviation = site_deviation(rules.privacy.noise, rules.clip, weights)
    return {name: tensor + gaussian(tensor.shape, deviation) for name, tensor in state.items()}, deviation


def site_deviation(noise: float, clip: float, weights: list[int]) -> float:
    """Standard deviation of the noise on each number of the mean, for the unit `site`: the sensitivity of the
    mean is clip · largest weight / sum of weights."""
    return noise * clip * max(weights) / sum(weights)


def normal_quantile(p: Floats) -> Floats:
    """The standard normal's inverse distribution function at 0 < p < 1, to a relative error of 1e-15:
    Wichura, algorithm AS 241, Applied Statistics 37, 1988, as in the standard library's NormalDist."""
    q = p - 0.5
    r = 0.180625 - q * q
    found = q * _polynomial(_A, r) / _polynomial(_B, r)
    outer = np.flatnonzero(np.abs(q) > 0.425)
    side = q[outer]
    r = np.sqrt(-np.log(np.where(side < 0, p[outer], 1.0 - p[outer])))
    middle, far = r - 1.6, r - 5.0
    tail = _polynomial(_C, middle) / _polynomial(_D, middle)
    beyond = r > 5.0
    if beyond.any():
        tail[beyond] = _polynomial(_E, far[beyond]) / _polynomial(_F, far[beyond])
    found[outer] = np.copysign(tail, side)
    return found


def _polynomial(coefficients: tuple[float, ...], x: Floats) -> Floats:
    """Horner's rule in place."""
    value = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value *= x
        value += coefficient
    return value


# Coefficients of PPND16 from the highest power down: |q| <= 0.425, then sqrt(-log p) up to 5, then beyond.
_A = (2.50908_09287_30122_6727e3, 3.34305_75583_58812_8105e4, 6.72657_70927_00870_0853e4,
      4.59219_53931_54987_1457e4, 1.37316_93765_50946_1125e4, 1.97159_09503_06551_4427e3,
      1.33141_66789_17843_7745e2, 3.38713_28727_96366_6080e0)  # fmt: skip
_B = (5.22649_52788_52854_5610e3, 2.87290_85735_72194_2674e4, 3.93078_95800_09271_0610e4,
      2.12137_94301_58659_5867e4, 5.39419_60214_24751_1077e3, 6.87187_00749_20579_0830e2,
      4.23133_30701_60091_1252e1, 1.0)  # fmt: skip
_C = (7.74545_01427_83414_07640e-4, 2.27238_44989_26918_45833e-2, 2.41780_72517_74506_11770e-1,
      1.27045_82524_52368_38258e0, 3.64784_83247_63204_60504e0, 5.76949_72214_60691_40550e0,
      4.63033_78461_56545_29590e0, 1.42343_71107_49683_57734e0)  # fmt: skip
_D = (1.05075_00716_44416_84324e-9, 5.47593_80849_95344_94600e-4, 1.51986_66563_61645_71966e-2,
      1.48103_97642_74800_74590e-1, 6.89767_33498_51000_04550e-1, 1.67638_48301_83803_84940e0,
      2.05319_16266_37758_82187e0, 1.0)  # fmt: skip
_E = (2.01033_43992_92288_13265e-7, 2.71155_55687_43487_57815e-5, 1.24266_09473_88078_43860e-3,
      2.65321_89526_57612_30930e-2, 2.96560_57182_85048_91230e-1, 1.78482_65399_17291_33580e0,
      5.46378_49111_64114_36990e0, 6.65790_46435_01103_77720e0)  # fmt: skip
_F = (2.04426_31033_89939_78564e-15, 1.42151_17583_16445_88870e-7, 1.84631_83175_10054_68180e-5,
      7.86869_13114_56132_59100e-4, 1.48753_61290_85061_48525e-2, 1.36929_88092_27358_05310e-1,
      5.99832_20655_58879_37690e-1, 1.0)  # fmt: skip
