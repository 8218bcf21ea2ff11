"""What a LoRA pair counts beside the linear that it stands on."""

from __future__ import annotations

import math

from contracts.manifest import Lora, Spf


def lora_scale(adapter: Lora | Spf) -> float:
    """As peft computes it, with and without `use_rslora`, and as enclave/slicing/lora.py does (a test holds
    one against the other: an aggregator, which has no torch, packs what is released)."""
    return adapter.alpha / (math.sqrt(adapter.rank) if adapter.rslora else adapter.rank)
