"""Residues modulo 2^24 or 2^32 in three or four bytes, and what masks do to them.

A residue lies in two planes: its low 16 bits, and the 8 or 16 above. Answers and pads are such residues. A
*word*, what goes out, is read otherwise: its bytes, lowest first, are signed digits d₀, d₁, … and mean
Σ dᵢ·256ⁱ. So every pattern of bytes is a word of exactly one residue, uniform residues are uniform words,
and the bytes are at once the int8 limbs that a matrix unit multiplies: nothing is carried from limb to limb.
The word of x − C, C = Σ 128·256ⁱ over all bytes but the highest, has the bytes of x with the top bit of
those bytes turned.

Each pass writes what leaves the enclave once, and reads what comes in once. Runs on either side of the
trust boundary.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

WIDTHS = (3, 4)
"""Bytes of a residue: a ring of 2^24 or of 2^32."""
LOW_FLIP = 0x8080
HIGH: dict[int, DTypeLike] = {3: np.int8, 4: np.int16}


@dataclass(frozen=True)
class Packed:
    """`low` (rows, columns) uint16 and `high` (rows, columns) int8 or int16: low + 65536·high."""

    low: NDArray[np.uint16]
    high: NDArray[Any]

    @classmethod
    def over(cls, memory: Any, rows: int, columns: int, limbs: int, offset: int = 0) -> Packed:
        """The planes that lie one after the other in a buffer.

        Returns: (rows, columns) words.
        """
        low = np.frombuffer(memory, np.uint16, rows * columns, offset)
        high = np.frombuffer(memory, HIGH[limbs], rows * columns, offset + low.nbytes)
        return cls(low.reshape(rows, columns), high.reshape(rows, columns))

    @classmethod
    def beside(cls, lines: NDArray[np.uint8], columns: int, limbs: int) -> Packed:
        """Rows whose two planes lie side by side in each line of bytes.

        Args: `lines` (rows, bytes) uint8.

        Returns: (rows, columns) words.
        """
        low, high = lines[:, : 2 * columns], lines[:, 2 * columns : limbs * columns]
        return cls(low.view(np.uint16), high.view(HIGH[limbs]))

    @property
    def limbs(self) -> int:
        return 2 + self.high.itemsize

    @property
    def high_flip(self) -> int:
        """See `LOW_FLIP`."""
        return 0x80 if self.limbs == 4 else 0

    def __getitem__(self, rows: slice) -> Packed:
        return Packed(self.low[rows], self.high[rows])


class Buffers(threading.local):
    """Memory that is used again: fresh pages for each product would cost more than the product. Each thread
    has its own."""

    def __init__(self) -> None:
        self._flat: dict[tuple[str, torch.dtype], Tensor] = {}

    def take(self, purpose: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A tensor with undefined content; the next `take` for the same purpose overwrites it.

        Returns: of the shape (…) and dtype that were asked for.
        """
        size = math.prod(shape)
        flat = self._flat.get((purpose, dtype))
        if flat is None or flat.numel() < size:
            with torch.inference_mode(False):  # what an evaluation made, training must be able to overwrite
                flat = torch.empty(size, dtype=dtype)
            self._flat[purpose, dtype] = flat
        return flat[:size].view(shape)

    def integers(self, purpose: str, shape: tuple[int, ...]) -> NDArray[np.int32]:
        """As `take`, for numpy.

        Returns: of the shape (…) that was asked for, int32.
        """
        array: NDArray[np.int32] = self.take(purpose, shape, torch.int32).numpy()
        return array


def mask(stream: Packed, fixed: NDArray[np.int32], out: Packed, buffers: Buffers) -> None:
    """`out` = the words of r + fixed − C.

    Args: `stream` (rows, inner) uniform words r; `fixed` (rows, inner) int32; `out` (rows, inner) words.
    """
    total = buffers.integers("total", fixed.shape)
    np.add(stream.low, fixed, out=total)
    np.bitwise_xor(total, LOW_FLIP, out=out.low, casting="unsafe")  # narrowing is the reduction
    np.right_shift(total, 16, out=total)
    np.add(total, stream.high, out=total)
    np.bitwise_xor(total, out.high_flip, out=out.high, casting="unsafe")


def of_mask(stream: Packed) -> Packed:
    """The words of r − C: what `mask` writes for zeros, but in the stream's own memory.

    Args: `stream` (rows, inner) words.

    Returns: (rows, inner) words.
    """
    np.bitwise_xor(stream.low, LOW_FLIP, out=stream.low)
    np.bitwise_xor(stream.high, stream.high_flip, out=stream.high)
    return stream


def unmask(answer: Packed, pads: Packed, out: NDArray[np.int32], buffers: Buffers) -> None:
    """`out` = answer − pads: the residue of least size, between −2^23 and 2^23 (or −2^31 and 2^31).

    Args: `answer` and `pads` (rows, outer) residues; `out` (rows, outer) int32.
    """
    spare, high = 32 - 8 * answer.limbs, buffers.integers("total", out.shape)
    np.subtract(answer.low, pads.low, out=out, dtype=np.int32)
    difference = np.subtract(answer.high, pads.high)
    np.left_shift(difference, 16 + spare, out=high, dtype=np.int32)
    np.left_shift(out, spare, out=out)
    np.add(out, high, out=out)
    np.right_shift(out, spare, out=out)


def pack(values: NDArray[np.int32], out: Packed) -> None:
    """Residues into planes.

    Args: `values` (rows, columns) int32; `out` (rows, columns) words.
    """
    np.copyto(out.low, values, casting="unsafe")
    np.right_shift(values, 16, out=out.high, casting="unsafe")


def meaning(words: Packed) -> NDArray[np.int32]:
    """The residues that words mean.

    Args: `words` (rows, columns) words.

    Returns: (rows, columns) int32 of at most 2^23 + 2^16 (or any int32).
    """
    values = np.bitwise_xor(words.low, LOW_FLIP).astype(np.int32)
    high = (words.high ^ words.high_flip).astype(np.int32)
    high <<= 16
    values += high
    values -= LOW_FLIP + (words.high_flip << 16)
    return values
