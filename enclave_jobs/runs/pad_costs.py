"""What the pads of a masked study cost a hospital before it is launched: tokens, and tokens per core-hour.

The pad of a token is as many multiplications as its pass through the frozen linears, forward and backward, in
three limbs. How quickly one core makes them was measured (docs/results.md, "Method 1, masked", step offline).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from federation.studies.workload import Workload, layer_weights

MEASURED = {384: 42e9, 1024: 57e9, 2048: 62e9, 4096: 66e9}
"""Multiplications that one core made into pads in a second, by the model's hidden size: a Xeon with AVX-512
VNNI, without AMX, 29 November 2026."""


@dataclass(frozen=True)
class PadCosts:
    """`tokens` of the largest site over all rounds of training, where all its texts are of full length."""

    tokens: int
    tokens_per_core_hour: float

    @property
    def core_seconds(self) -> float:
        """Seconds of one core."""
        return 3600 * self.tokens / self.tokens_per_core_hour


def pad_costs(config: Any, work: Workload) -> PadCosts | None:
    """Of a masked study; None for all others."""
    if work.placement != "masked":
        return None
    known = [size for size in MEASURED if size <= config.hidden_size]
    speed = MEASURED[max(known, default=min(MEASURED))]
    each = 2 * (config.num_hidden_layers - work.cut) * layer_weights(config)
    tokens = work.rounds * work.epochs * max(work.rows, default=0) * work.tokens
    return PadCosts(tokens, 3600 * speed / each)
