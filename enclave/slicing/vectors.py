"""What stands behind the embeddings that are handed in. For the type checker: no program loads it."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Vectors(Protocol):
    """A source of embedding vectors."""

    size: int
    """Numbers in a vector."""

    def gather(self, ids: Tensor) -> Tensor:
        """The embeddings of tokens.

        Args: `ids` (n,) int64, distinct.

        Returns: (n, size) float32.
        """
