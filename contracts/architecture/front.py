"""What a public front leaves. Pure; runs on every side."""

from __future__ import annotations

from contracts.refusal import Refusal


def require_layer(layers: int, first: int) -> None:
    """Of a model with so many layers, one stands behind a public front that ends before number `first`.

    Raises: `front.no_layer`.
    """
    if first >= layers:
        raise Refusal("front.no_layer", first=first, layers=layers)
