"""Layers by their numbers, from 0: which one something lies in, by its name. Pure; runs on every side."""

from __future__ import annotations

import re

from contracts.refusal import Refusal

_NUMBER = re.compile(r"(?:^|\.)(\d+)(?:\.|$)")


def layer_of(name: str) -> int | None:
    """By the name of a module or parameter in the whole model: the first number among its parts, which in all
    architectures counts the layers, from 0. None for what lies in no layer: embeddings, norms, a head."""
    found = _NUMBER.search(name)
    return None if found is None else int(found[1])


def require_layer(layers: int, first: int) -> None:
    """Of a model with so many layers, one stands behind a public front that ends before number `first`.
    Refuses with `front.no_layer`."""
    if first >= layers:
        raise Refusal("front.no_layer", first=first, layers=layers)
