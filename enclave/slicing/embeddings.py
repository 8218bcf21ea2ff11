"""Embedding vectors that the agent hands in.

The table of token embeddings is public and large, and the site's host owns the token ids anyway. So the
enclave never holds the table: where it stood, `GivenVectors` asks a source for the vectors of the batch's
tokens. The host may hand in no vector of its own choice: chosen inputs are questions to the tuned
parameters, and enough answers give them away. So each vector is checked against the tag that its row got in
the one pass that checked the pin of the file. Runs inside the enclave.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor, nn

from contracts.refusal import Refusal
from enclave.slicing.checkpoint import TensorPlace


class Vectors(Protocol):
    """A source of embedding vectors."""

    size: int
    """Numbers in a vector."""

    def gather(self, ids: Tensor) -> Tensor:
        """The embeddings of tokens.

        Args: `ids` (n,) int64, distinct.

        Returns: (n, size) float32.
        """


class TableVectors:
    """Vectors from a table in memory: for models that were built in memory."""

    def __init__(self, table: Tensor) -> None:
        self._table = table.detach().float()
        self.size = table.shape[1]

    def gather(self, ids: Tensor) -> Tensor:
        """See `Vectors.gather`.

        Args: `ids` (n,) int64.

        Returns: (n, size) float32.
        """
        return self._table[ids]


class FileVectors:
    """Vectors from a table in a pinned file of the host, row by row."""

    def __init__(self, place: TensorPlace) -> None:
        """`place` is a matrix whose rows have tags."""
        if place.rows is None:
            raise Refusal("slicing.no_embeddings", fault="the rows of the table were not pinned")
        self._tags = place.rows
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
            if not self._tags.holds(token, row):
                raise Refusal("slicing.embedding_changed")
            rows[place * self._row : (place + 1) * self._row] = row
        return torch.frombuffer(rows, dtype=self._dtype).view(len(ids), self.size).float()


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
