"""A table of token embeddings that is read as a whole: who watches the reads learns nothing of the texts.
Runs inside the enclave, behind a public front and in the server's TEE."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from contracts.refusal import Refusal


class ScannedVectors:
    """Vectors from a table that is read as a whole, some rows at a time, whichever of them are wanted: the
    host that holds it does not see which."""

    def __init__(self, pieces: Callable[[], Iterator[Tensor]], size: int) -> None:
        """`pieces` reads the table again, and checks what it reads."""
        self._pieces, self.size = pieces, size

    def gather(self, ids: Tensor) -> Tensor:
        """See `Vectors.gather`.

        Args: `ids` (n,) int64.

        Returns: (n, size) float32.

        Raises: `slicing.no_embeddings`, and as `pieces` does.
        """
        found, seen, at = torch.empty(len(ids), self.size), 0, 0
        for piece in self._pieces():
            here = (ids >= at) & (ids < at + len(piece))
            found[here] = piece[ids[here] - at].float()
            seen, at = seen + int(here.sum()), at + len(piece)
        if seen < len(ids):
            raise Refusal("slicing.no_embeddings", fault="a token lies outside the table")
        return found
