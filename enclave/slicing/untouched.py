"""Which products of a cut model see what no tuned parameter has touched. Runs inside the enclave, behind a
public front."""

from __future__ import annotations

from collections.abc import Iterator, Set

from contracts.architecture.numbering import layer_of
from enclave.slicing.cut import Cut


def untouched(cut: Cut, seen: Set[int]) -> Iterator[int]:
    """In the first layer behind a public front, the products of layers whose input needed no gradient:
    frozen norms of features apart, it is what the host has handed in."""
    for layer in (group.layer for group in cut.groups):
        asked = not seen.isdisjoint(product.number for product in layer.backward)
        if not asked and layer_of(layer.name) == cut.first:
            yield from (product.number for product in layer.forward)
