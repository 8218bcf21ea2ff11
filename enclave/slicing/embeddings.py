"""Embedding vectors that the agent hands in.

The table of token embeddings is public and large, and the site's host owns the token ids anyway. So the
enclave never holds the table: where it stood, `GivenVectors` asks a source for the vectors of the batch's
tokens. The host may hand in no vector of its own choice: chosen inputs are questions to the tuned
parameters, and enough answers give them away. So each vector is checked against the hash that its row had in
the one pass that checked the pin of the file. Runs inside the enclave.
"""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from contracts.refusal import Refusal
from enclave.slicing.checkpoint import TensorPlace

if TYPE_CHECKING:
    from enclave.slicing.vectors import Vectors


class FileVectors:
    """Vectors from a table in a pinned file of the host, row by row."""

    def __init__(self, place: TensorPlace) -> None:
        """`place` is a matrix that was hashed row by row."""
        self._place = place
        self._descriptor = os.open(place.file, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)
        self._offset, self._dtype = place.offset, place.dtype
        self._count, self.size = place.shape
        self._row = self.size * place.dtype.itemsize

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
            row = os.pread(self._descriptor, self._row, self._offset + token * self._row)
            if len(row) != self._row:
                raise Refusal("slicing.no_embeddings", fault="the file is cut off")
            if not self._place.holds(token, row):
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
