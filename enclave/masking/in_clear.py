"""The masked engine behind a public front: some features go out as they are, those that the host has computed
itself. What comes back for them is checked like all else.

Runs inside the enclave; a client slice without a public front loads none of it.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

import numpy as np

from enclave.masking.layers import Product
from enclave.masking.masked import MaskedEngine
from enclave.masking.masks import PadIndex
from enclave.masking.residues import HIGH, LOW_FLIP, Packed


class PartlyMaskedEngine(MaskedEngine):
    """Products with a number in `public` have no pads."""

    def __init__(self, *arguments: Any, public: Collection[int], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._public = frozenset(public)

    def _stream(self, index: PadIndex, product: Product, first: int, count: int) -> Packed:
        """For the host's own features residues that change nothing: `mask` writes the words of the features
        themselves."""
        if product.number not in self._public:
            return super()._stream(index, product, first, count)
        unmasking = LOW_FLIP if product.limbs == 3 else LOW_FLIP | 0x80 << 16
        return everywhere(unmasking, count, product.inner, product.limbs)

    def _pads(self, product: Product, first: int, tokens: int) -> Packed:
        """Zeros where the features went out as they are."""
        if product.number not in self._public:
            return super()._pads(product, first, tokens)
        return everywhere(0, tokens, product.outer, product.limbs)


def partly(kind: type[MaskedEngine], public: Collection[int]) -> Any:
    """What makes an engine of this kind with these products in clear."""
    return partial(type("PartlyMasked", (PartlyMaskedEngine, kind), {}), public=public)


def everywhere(residue: int, rows: int, columns: int, limbs: int) -> Packed:
    """The same residue in every place; to be read only.

    Returns: (rows, columns) words, low halves uint16, high ones `HIGH[limbs]`.
    """
    low, high = np.array(residue & 0xFFFF, np.uint16), np.array(residue >> 16, HIGH[limbs])
    return Packed(np.broadcast_to(low, (rows, columns)), np.broadcast_to(high, (rows, columns)))
