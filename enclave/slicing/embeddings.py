"""Embedding vectors that the agent hands in.

The table of token embeddings is public and large, and the site's host owns the token ids anyway. So the
enclave never holds the table: where it stood, `GivenVectors` asks a source for the vectors of the batch's
tokens. The host may hand in no vector of its own choice: chosen inputs are questions to the tuned
parameters, and enough answers give them away. So each vector is checked against the hash of its row, which
was pinned, or taken in the one pass that checked the pin of the file. Runs inside the enclave.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from contracts.refusal import Refusal

if TYPE_CHECKING:
    from enclave.slicing.vectors import Vectors


class FileVectors:
    """Vectors from a table in a file of the host, row by row."""

    def __init__(
        self, file: Path, at: int, shape: tuple[int, ...], dtype: torch.dtype, hashes: bytes
    ) -> None:
        """The table begins at byte `at`, and is (tokens, size); `hashes` are the SHA-256 of its rows, one
        after the other."""
        self._file = file.open("rb", buffering=0)
        self._offset, self._dtype, self._hashes = at, dtype, hashes
        self._count, self.size = shape
        self._row = self.size * dtype.itemsize

    def gather(self, ids: Tensor) -> Tensor:
        """See `Vectors.gather`.

        Args: `ids` (n,) int64.

        Returns: (n, size) float32.

        Raises: `slicing.no_embeddings`, and `slicing.embedding_changed` for a row that is not the pinned
        one.
        """
        rows = bytearray(len(ids) * self._row)
        for place, token in enumerate(ids.tolist()):
            if not 0 <= token < self._count:
                raise Refusal("slicing.no_embeddings", fault="a token lies outside the table")
            row = os.pread(self._file.fileno(), self._row, self._offset + token * self._row)
            if hashlib.sha256(row).digest() != self._hashes[32 * token : 32 * token + 32]:
                raise Refusal("slicing.embedding_changed")
            rows[place * self._row : (place + 1) * self._row] = row
        return torch.frombuffer(rows, dtype=self._dtype).view(len(ids), self.size).float()


class GivenVectors(nn.Module):
    """Stands where the token embeddings stood: (batch, tokens) ids -> (batch, tokens, size) vectors, times
    `scale` (Gemma's √d)."""

    def __init__(self, vectors: Vectors, scale: float = 1.0) -> None:
        super().__init__()
        self.vectors, self.scale = vectors, scale

    def forward(self, ids: Tensor) -> Tensor:
        """Each distinct token is asked for once.

        Args: `ids` (batch, tokens) int64.

        Returns: (batch, tokens, size) float32.

        Raises: `slicing.no_embeddings` for what is not finite.
        """
        distinct, places = torch.unique(ids, return_inverse=True)
        vectors = self.vectors.gather(distinct)
        if not torch.isfinite(vectors).all():
            raise Refusal("slicing.no_embeddings", fault="a vector is not finite")
        vectors = vectors.to(ids.device)[places]
        return vectors if self.scale == 1.0 else vectors * self.scale
