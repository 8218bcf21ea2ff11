"""Embedding vectors that the agent hands in.

The table of token embeddings is public and large, and the site's host owns the token ids anyway. So the
enclave never holds the table: where it stood, `HandedIn` asks a source for the vectors of the batch's tokens.
The host could hand in wrong vectors, which harms nobody's secrets: they are its own inputs, like its rows.
Runs inside the enclave.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from contracts.refusal import Refusal


class Vectors(Protocol):
    """A source of embedding vectors."""

    size: int
    """Numbers in a vector."""

    def gather(self, ids: Tensor) -> Tensor:
        """(n,) distinct ids -> (n, size) float32."""


class TableVectors:
    """Vectors from a table in memory: for models that were built in memory."""

    def __init__(self, table: Tensor) -> None:
        self._table = table.detach().float()
        self.size = table.shape[1]

    def gather(self, ids: Tensor) -> Tensor:
        """See `Vectors.gather`."""
        return self._table[ids]


class FileVectors:
    """Vectors from rows of a file of the host: `count` rows of `size` numbers from `offset` on."""

    def __init__(self, file: Path, offset: int, count: int, size: int, dtype: torch.dtype) -> None:
        self._descriptor = os.open(file, os.O_RDONLY)
        self._offset, self._count, self._dtype = offset, count, dtype
        self._row = size * torch.empty((), dtype=dtype).element_size()
        self.size = size

    def gather(self, ids: Tensor) -> Tensor:
        """See `Vectors.gather`. Refuses with `slicing.no_embeddings`."""
        rows = bytearray(len(ids) * self._row)
        for place, token in enumerate(ids.tolist()):
            if not 0 <= token < self._count:
                raise Refusal("slicing.no_embeddings", fault="a token lies outside the table")
            target = memoryview(rows)[place * self._row : (place + 1) * self._row]
            if os.preadv(self._descriptor, [target], self._offset + token * self._row) != self._row:
                raise Refusal("slicing.no_embeddings", fault="the file is cut off")
        return torch.frombuffer(rows, dtype=self._dtype).view(len(ids), self.size).float()

    def __del__(self) -> None:
        os.close(self._descriptor)


class HandedIn(nn.Module):
    """Stands where the token embeddings stood: (batch, tokens) ids -> (batch, tokens, size) vectors."""

    def __init__(self, vectors: Vectors) -> None:
        super().__init__()
        self.vectors = vectors

    def forward(self, ids: Tensor) -> Tensor:
        """Each distinct token is asked for once. Refuses with `slicing.no_embeddings` what is not finite."""
        distinct, places = torch.unique(ids, return_inverse=True)
        vectors = self.vectors.gather(distinct)
        if not torch.isfinite(vectors).all():
            raise Refusal("slicing.no_embeddings", fault="a vector is not finite")
        return vectors[places]
