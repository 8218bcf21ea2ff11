"""What of a cut model stands behind a public front: its tail, and which of its products see what no tuned
parameter has touched. Runs inside the enclave; a client slice without a public front loads none of it."""

from __future__ import annotations

from collections.abc import Iterator, Set

from transformers import PreTrainedModel

from contracts.architecture.front import require_layer
from contracts.architecture.numbering import layer_of
from enclave.slicing.cut import Cut
from enclave.slicing.split import Tail


def tail_behind(model: PreTrainedModel, first: int) -> Tail:
    """What is left of `model` behind its first layers.

    Raises: `front.no_layer` or `split.bad_cut`.
    """
    require_layer(model.config.num_hidden_layers, first)
    return Tail(model, first)


def untouched(cut: Cut, seen: Set[int]) -> Iterator[int]:
    """In the first layer behind a public front, the products of layers whose input needed no gradient:
    frozen norms of features apart, it is what the host has handed in."""
    for layer in (group.layer for group in cut.groups):
        asked = not seen.isdisjoint(product.number for product in layer.backward)
        if not asked and layer_of(layer.name) == cut.first:
            yield from (product.number for product in layer.forward)
