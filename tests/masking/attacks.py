"""Attacks on masked features from the literature, and the broken schemes that they break.

The broken schemes exist here only, as the proof that the attacks work: a static basis of masks (what Soter-
and ShadowNet-like designs amount to), float noise (as in early obfuscation schemes), and a pad used twice.
arXiv 2602.11088 surveys why each fails. All see features as (tokens, inner) int32 and give what an
accelerator would see as float64.
"""

import numpy as np

BASIS = 6


def static_basis(features, generator):
    """x + c·B: B is fixed for a run, c is fresh for each token. Real arithmetic, as these schemes have it."""
    basis = generator.normal(size=(BASIS, features.shape[1])) * 3e4
    return features + generator.normal(size=(len(features), BASIS)) @ basis


def float_noise(features, generator):
    """x + noise of ten times its size, fresh for each element; the same tokens come again every epoch."""
    size = 10.0 * features.std()
    return np.mean([features + generator.normal(size=features.shape) * size for _ in range(2000)], axis=0)


def reused_pad(features, generator):
    """(x + r) mod 2^32 with one pad for two batches: the difference is what the attacker keeps."""
    half = len(features) // 2
    pad = generator.integers(0, 1 << 32, (half, features.shape[1]), dtype=np.int64)
    words = [(part + pad).astype(np.uint32) for part in (features[:half], features[half : 2 * half])]
    return (words[0] - words[1]).astype(np.int32).astype(np.float64)


def correlation(seen, truth):
    """The plainest attack: how far what was seen goes along with the features. In [0, 1]."""
    return float(abs(np.corrcoef(seen.ravel(), truth.ravel())[0, 1]))


def principal_share(seen, components):
    """PCA: the share of variance in the largest components. Uniform words spread it evenly."""
    values = np.linalg.svd(seen - seen.mean(0), compute_uv=False) ** 2
    return float(values[:components].sum() / values.sum())


def span_residual_attack(seen, truth, rank):
    """Row span: take the directions of most variance for the masks' span, project them away, and compare what
    is left with the features treated alike. Near 1: the features (but for `rank` directions) are
    recovered."""
    directions = np.linalg.svd(seen, full_matrices=False)[2][:rank]
    return correlation(seen - seen @ directions.T @ directions, truth - truth @ directions.T @ directions)


def chi_square(data):
    """Byte counts against uniform: the statistic in standard deviations from its mean (255 degrees)."""
    counts = np.bincount(np.frombuffer(data, np.uint8), minlength=256)
    expected = len(data) / 256
    return float((((counts - expected) ** 2 / expected).sum() - 255) / np.sqrt(2 * 255))


def bit_bias(data):
    """The largest bias of any of the 32 bit places, in standard deviations."""
    words = np.frombuffer(data, np.uint32)
    ones = np.array([((words >> np.uint32(bit)) & np.uint32(1)).mean() for bit in range(32)])
    return float(np.abs(ones - 0.5).max() * 2 * np.sqrt(len(words)))


def serial_correlation(data, lag):
    """Correlation of bytes at a distance, in standard deviations."""
    values = np.frombuffer(data, np.uint8).astype(np.float64)
    return float(abs(np.corrcoef(values[:-lag], values[lag:])[0, 1]) * np.sqrt(len(values)))
