"""The way to the accelerator: words in a shared file, outside every trust boundary.

The host makes the file (under Gramine in an `untrusted_shm` mount, /channel); both
processes map it. A header page, then a ring of slots; a slot is a line of the header and two areas:

    header   magic u64, slots u64, area bytes u64, heartbeat u64, name (64 bytes, ASCII), answered u64
    line i   at 256 + 64·i:  asked u64 ‖ answered u64 ‖ product u32 ‖ rows u32 ‖ product u32 ‖ rows u32
             (the enclave writes `asked` and the first pair, the accelerator `answered` and the second)
    areas    request, then answer: rows × inner words and rows × outer residues of the product's width;
             first the low 16 bits of all (u16 each), then what is above (u8 each, or u16)

Requests are numbered from 1 for the life of the file and go to slot number mod slots. Everything in the
file is the host's: the enclave takes its geometry from the header once, when it opens the file, reads every
word of an answer once, and believes nothing that `masking.integrity` has not checked. Only masked words are
ever written.
"""

from __future__ import annotations

import mmap
import os
import time
from collections import deque
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contracts.refusal import Refusal
from enclave.masking.layers import Product
from enclave.masking.residues import Packed

MAGIC = int.from_bytes(b"fedslice")
PAGE = 1 << 16
LINES, LINE = 256, 64
MAX_SLOTS = 64
SPINS = 2000
"""Looks at the answer before the waiting side begins to sleep between looks."""
BEAT, ANSWERED = 3, 12
DEAD_SECONDS = 10.0
"""An accelerator whose heartbeat (five a second) stands still for so long is dead."""
NAME = slice(32, 96)


class SharedFile:
    """The mapped file, which the host has made (`enclave_host.channel_file`)."""

    def __init__(self, path: Path, memory: mmap.mmap) -> None:
        self._memory = memory
        self.path = path
        self.words: NDArray[np.uint64] = np.frombuffer(memory, np.uint64, PAGE // 8)
        self.halves: NDArray[np.uint32] = np.frombuffer(memory, np.uint32, PAGE // 4)
        self.slots, self.area = int(self.words[1]), int(self.words[2])
        fits = PAGE + 2 * self.slots * self.area == len(memory)
        if self.words[0] != MAGIC or not 0 < self.slots <= MAX_SLOTS or self.area % 4096 or not fits:
            raise Refusal("accelerator.bad_channel", fault="its header is not of this release")

    @classmethod
    def open(cls, path: Path) -> SharedFile:
        """Raises: `accelerator.bad_channel`."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            try:
                # Its size is said: under Gramine the file is a device, of which Python asks for no size.
                return cls(path, mmap.mmap(descriptor, os.fstat(descriptor).st_size))
            finally:
                os.close(descriptor)
        except (OSError, ValueError) as error:
            raise Refusal("accelerator.bad_channel", fault=type(error).__name__) from error

    @property
    def name(self) -> str:
        """How the accelerator calls itself; only for people."""
        text = bytes(self._memory[NAME]).split(b"\0")[0].decode("ascii", "replace")
        return "".join(c for c in text if c.isprintable())

    def line(self, request: int) -> tuple[int, int]:
        """Places of the request's line in `words` and in `halves`."""
        at = LINES + LINE * (request % self.slots)
        return at // 8, at // 4

    def request_area(self, request: int, rows: int, columns: int, limbs: int) -> Packed:
        """The request's slot.

        Returns: (rows, columns) words, in shared memory.
        """
        return self._packed(2 * (request % self.slots), rows, columns, limbs)

    def answer_area(self, request: int, rows: int, columns: int, limbs: int) -> Packed:
        """The answer's slot.

        Returns: (rows, columns) residues, in shared memory.
        """
        return self._packed(2 * (request % self.slots) + 1, rows, columns, limbs)

    def _packed(self, area: int, rows: int, columns: int, limbs: int) -> Packed:
        if rows * columns * limbs > self.area:
            raise Refusal("accelerator.too_large", bytes=rows * columns * limbs)
        return Packed.over(self._memory, rows, columns, limbs, PAGE + area * self.area)


class MaskedChannel:
    """The enclave's end. At most `ahead` requests are on their way; answers come in the requests' order.
    `timeout` is in seconds for each answer."""

    def __init__(self, path: Path, *, timeout: float = 60.0) -> None:
        self._file = SharedFile.open(path)
        self._timeout = timeout
        self._request = int(self._file.words[ANSWERED])  # an earlier enclave may have used the file
        self._sent: deque[tuple[int, Product, int]] = deque()
        self.name = self._file.name
        self.ahead = min(self._file.slots, 2)

    def rows(self, product: Product) -> int:
        """How many rows of a product fit into one request."""
        return self._file.area // (product.limbs * max(product.inner, product.outer))

    def request(self, product: Product, rows: int) -> Packed:
        """Where a request is written: put masked words there, and nothing else.

        Returns: (rows, inner) words, in shared memory.
        """
        self._request += 1
        return self._file.request_area(self._request, rows, product.inner, product.limbs)

    def send(self, product: Product, rows: int) -> None:
        """Let the accelerator have what the last `request` gave."""
        words, halves = self._file.line(self._request)
        self._file.halves[halves + 4 : halves + 6] = product.number, rows
        self._file.words[words] = self._request
        self._sent.append((self._request, product, rows))

    def answer(self) -> Packed:
        """Wait for the answer to the oldest request that was sent.

        Returns: (rows, outer) residues, in shared memory, to be read once.

        Raises: `accelerator.slow`, `accelerator.dead` or `accelerator.wrong_answer`.
        """
        request, product, rows = self._sent.popleft()
        words, halves = self._file.line(request)
        self._wait(words + 1, request)
        stated = self._file.halves[halves + 6 : halves + 8].tolist()
        if stated != [product.number, rows]:
            fault = f"{stated[1]} rows of product {stated[0]} for {rows} rows of product {product.number}"
            raise Refusal("accelerator.wrong_answer", accelerator=self.name, fault=fault)
        return self._file.answer_area(request, rows, product.outer, product.limbs)

    def _wait(self, place: int, request: int) -> None:
        words, asked, looks = self._file.words, np.uint64(request), 0
        began = heard = time.monotonic()
        beat, pause = int(words[BEAT]), 2e-5
        while words[place] != asked:
            if (looks := looks + 1) <= SPINS:
                continue
            now = time.monotonic()
            if int(words[BEAT]) != beat:
                beat, heard = int(words[BEAT]), now
            if now - heard > min(DEAD_SECONDS, self._timeout):
                raise Refusal("accelerator.dead", accelerator=self.name)
            if now - began > self._timeout:
                raise Refusal("accelerator.slow", accelerator=self.name, seconds=self._timeout)
            time.sleep(pause)
            pause = min(pause * 1.5, 1e-3)
