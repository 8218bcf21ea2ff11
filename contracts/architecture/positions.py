"""How many tokens a text may have: what a configuration's positions leave. Pure; beside the architecture
table rather than in it, because every program that loads a model asks, and few load the table."""

from __future__ import annotations

from typing import Any

_PADDED = ("roberta", "xlm-roberta")
"""Their tables of positions begin with rows for padding (fairseq's `make_positions`)."""


def positions_of(config: Any) -> int:
    """Positions that a text can use; 0 where the configuration names no bound."""
    claimed = int(getattr(config, "max_position_embeddings", 0) or 0)
    padding = getattr(config, "pad_token_id", None)
    skipped = padding + 1 if getattr(config, "model_type", "") in _PADDED and padding is not None else 0
    return max(claimed - skipped, 0)
