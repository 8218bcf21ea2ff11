"""Layers by their numbers, from 0: which one something lies in, by its name. Pure; runs on every side."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"(?:^|\.)(\d+)(?:\.|$)")


def layer_of(name: str) -> int | None:
    """By the name of a module or parameter in the whole model: the first number among its parts, which in all
    architectures counts the layers, from 0. None for what lies in no layer: embeddings, norms, a head."""
    found = _NUMBER.search(name)
    return None if found is None else int(found[1])
