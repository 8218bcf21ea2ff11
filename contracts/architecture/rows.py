"""A model's row of the architecture table (contracts/architecture/family.py). Pure; runs on every side."""

from __future__ import annotations

from typing import Any

from contracts.architecture.bert_build import BERT_BUILD
from contracts.architecture.family import Architecture
from contracts.refusal import Refusal


def row_of(config: Any) -> Architecture:
    """The row of a model's configuration. Other rows than those of BERT's build are loaded for the models
    that need them.

    Raises: `slicing.unknown_architecture`.
    """
    found = str(getattr(config, "model_type", type(config).__name__))
    if found in BERT_BUILD:
        return BERT_BUILD[found]
    from contracts.architecture.encoders import ENCODERS

    if found in ENCODERS:
        return ENCODERS[found]
    from contracts.architecture.decoders import DECODERS

    if found not in DECODERS:
        names = ", ".join(row.name for row in (*ENCODERS.values(), *DECODERS.values()))
        raise Refusal("slicing.unknown_architecture", found=found[:80], supported=names)
    return DECODERS[found]
