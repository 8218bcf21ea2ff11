"""AES-256-GCM frames: the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár 2015) in constant memory.

Plaintext is cut into frames of FRAME_BYTES; only the last may be shorter, and it is empty only where the
whole plaintext is. A frame is written as

    u32 big-endian: last << 31 | plaintext length     4 bytes
    AES-256-GCM ciphertext and tag                    length + 16 bytes

Its nonce is `00 × 3 ‖ index (u64) ‖ last (u8)`, so frames can neither be reordered, dropped, repeated nor be
cut or followed by others; its associated data is `context ‖ index (u64)`. A key must serve one stream only:
whoever calls this draws or derives a fresh one.
"""

from __future__ import annotations

import hashlib
from queue import Queue
from threading import Thread
from typing import BinaryIO, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from contracts.refusal import Refusal

FRAME_BYTES = 1 << 20
TAG_BYTES = 16
MAX_PLAINTEXT_BYTES = 1 << 36
_LAST = 1 << 31
# Frames live in a few buffers that are used in turn: new memory for each costs as much as encrypting it. One
# is being filled while one waits for HashBeside and one is hashed there.
_BUFFERS = 3

Chunk = bytes | memoryview


class Sink(Protocol):
    """Takes chunks of bytes, in order. A chunk may change after two more calls."""

    def __call__(self, *chunks: Chunk) -> object: ...


def encrypt_frames(source: BinaryIO, sink: Sink, *, key: bytes, context: bytes) -> int:
    """Encrypt all of `source` into `sink`; returns the number of plaintext bytes. Memory: five frames."""
    cipher, index, total = AESGCM(key), 0, 0
    plain = [memoryview(bytearray(FRAME_BYTES)) for _ in range(2)]
    sealed = [memoryview(bytearray(FRAME_BYTES + TAG_BYTES)) for _ in range(_BUFFERS)]
    length = fill(source, plain[0])
    while True:
        following = fill(source, plain[(index + 1) % 2]) if length == FRAME_BYTES else 0
        last = not following
        frame, output = plain[index % 2][:length], sealed[index % _BUFFERS][: length + TAG_BYTES]
        cipher.encrypt_into(_nonce(index, last), frame, _associated(context, index), output)
        sink((length | (_LAST if last else 0)).to_bytes(4, "big"), output)
        total += length
        if last:
            return total
        length, index = following, index + 1


def decrypt_frames(
    source: BinaryIO, target: BinaryIO, sink: Sink, *, key: bytes, context: bytes, limit: int
) -> int:
    """Decrypt frames up to and with the last into `target`; returns the number of plaintext bytes.

    Every byte that is read goes to `sink` too (for hashing). Only frames whose tag holds are written.

    Raises: `sealing.refused`, or `sealing.too_large` before the frame that would pass `limit` bytes is
    read.
    """
    cipher, index, total = AESGCM(key), 0, 0
    plain = memoryview(bytearray(FRAME_BYTES))
    sealed = [memoryview(bytearray(FRAME_BYTES + TAG_BYTES)) for _ in range(_BUFFERS)]
    while True:
        head = read_exactly(source, 4)
        word = int.from_bytes(head, "big")
        last, length = word >= _LAST, word & (_LAST - 1)
        regular = length <= FRAME_BYTES and (length > 0 or index == 0) if last else length == FRAME_BYTES
        if len(head) < 4 or not regular:
            raise Refusal("sealing.refused")
        if total + length > limit:
            raise Refusal("sealing.too_large", what="the content", limit=limit)
        frame, output = sealed[index % _BUFFERS][: length + TAG_BYTES], plain[:length]
        if fill(source, frame) < len(frame):
            raise Refusal("sealing.refused")
        sink(head, frame)
        try:
            cipher.decrypt_into(_nonce(index, last), frame, _associated(context, index), output)
        except (InvalidTag, ValueError) as error:
            raise Refusal("sealing.refused") from error
        target.write(output)
        total += length
        if last:
            return total
        index += 1


def fill(source: BinaryIO, buffer: memoryview) -> int:
    """Read until `buffer` is full or the source ends; returns how much. Pipes, sockets and parts of a state
    give less at a time."""
    done = 0
    while done < len(buffer) and (count := source.readinto(buffer[done:])):  # type: ignore[attr-defined]
        done += count
    return done


def read_exactly(source: BinaryIO, count: int) -> bytes:
    """`count` bytes, or fewer at the end of the source."""
    buffer = bytearray(count)
    return bytes(buffer[: fill(source, memoryview(buffer))])


class HashBeside:
    """SHA-256 in a second thread. Where AES is done in hardware, hashing is the slower of the two: doing both
    at once is most of what a sealed stream's throughput hangs on. At most one update waits."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._waiting: Queue[tuple[Chunk, ...] | None] = Queue(1)
        self._thread = Thread(target=self._run, name="sealing-hash", daemon=True)
        self._thread.start()

    def update(self, *chunks: Chunk) -> None:
        """Hash these soon, in order. Those that can change must not before two more updates."""
        self._waiting.put(chunks)

    def hexdigest(self) -> str:
        """The hash of everything so far."""
        self._waiting.join()
        return self._hash.hexdigest()

    def __enter__(self) -> HashBeside:
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (chunks := self._waiting.get()) is not None:
            for chunk in chunks:
                self._hash.update(chunk)
            self._waiting.task_done()


def _nonce(index: int, last: bool) -> bytes:
    return b"\0\0\0" + index.to_bytes(8, "big") + (b"\1" if last else b"\0")


def _associated(context: bytes, index: int) -> bytes:
    return context + index.to_bytes(8, "big")
