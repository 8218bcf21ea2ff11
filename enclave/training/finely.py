"""Scores with more than a label for each row needs: of several labels, or with what tables are made of.

Loaded where a manifest asks for one of them. Runs inside the enclave.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from enclave.training.loop import Material
from enclave.training.metrics import Scores


def evaluate_finely(model: nn.Module, examples: Material, several: bool, tables: bool, **how: Any) -> Scores:
    """As `loop.evaluate`, which is told `how`."""
    if several:
        from enclave.training.several import evaluate_several

        return evaluate_several(model, examples, tables=tables, **how)
    from enclave.training.tables import evaluate_with_bins

    return evaluate_with_bins(model, examples, **how)
