"""Small random models of every family, three layers deep, and texts for them."""

from __future__ import annotations

import torch

from benchmarks import small_models
from benchmarks.small_models import FAMILIES, HEADS, config, model
from tests.support.families import tried

LAYERS, VOCABULARY, LABELS = 3, 47, 3
MODELS, DECODERS = tried(HEADS), tried(small_models.DECODERS)
ONE_EACH = [(name, "lm" if name in small_models.DECODERS else "classifier") for name in FAMILIES]
"""One model of each family."""
__all__ = ["DECODERS", "FAMILIES", "HEADS", "LABELS", "LAYERS", "MODELS", "ONE_EACH", "VOCABULARY",
           "config", "model", "texts"]  # fmt: skip


def texts(seed: int = 1, left: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Four texts of 9, 5, 1 and 7 tokens: (ids, mask), padded."""
    draw = torch.Generator().manual_seed(seed)
    ids, mask = torch.zeros(4, 9, dtype=torch.long), torch.zeros(4, 9, dtype=torch.long)
    for place, length in enumerate((9, 5, 1, 7)):
        where = slice(9 - length, 9) if left else slice(0, length)
        ids[place, where] = torch.randint(3, VOCABULARY, (length,), generator=draw)
        mask[place, where] = 1
    return ids, mask
