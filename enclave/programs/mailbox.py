"""The mailbox: the folder through which sealed files enter and leave an enclave, each named by its SHA-256.

`DIR/in/<sha256>` is written by the host, `DIR/out/<sha256>` by the program. The folder is the host's, so
inside the enclave nothing about it is believed: a name is 64 hex characters and no path, links are not
followed, sizes have a limit, and a file is hashed *while* it is read (a check beforehand could be undone by
swapping the file).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from contracts.refusal import Refusal
from contracts.sealed.container import FileRef
from contracts.sealed.frames import Chunk, HashBeside

MAX_FILE_BYTES = 4 << 30
MAX_PLAINTEXT_BYTES = 1 << 30
"""Of tuned parameters, as they are opened into the enclave's memory."""
PREPARED, PADS = "in/prepared", "out/pads"
"""Beside the sealed files of a client slice whose frozen layers are multiplied outside: the prepared model
that the host hands in, whose int8 weights the accelerator maps, and sealed pads."""
_SHA256 = re.compile("[0-9a-f]{64}")
_CHUNK = 1 << 20
_SHORT = 1 << 12


class HashedReader:
    """A file that is hashed as it is read, in a second thread. `finish` reads what is left and compares.

    A buffer that `readinto` has filled is hashed where it lies: it must not change before two more reads
    have returned as much as a frame. Short reads wait for the next long one, as waking the other thread for
    a frame's four bytes costs more than hashing them.
    """

    def __init__(self, file: IO[bytes], expected: str, limit: int) -> None:
        self._file, self._expected, self._limit = file, expected, limit
        self._hash = HashBeside()
        self._short: list[Chunk] = []
        self.bytes = 0

    def __enter__(self) -> HashedReader:
        return self

    def __exit__(self, *failure: object) -> None:
        self._hash.__exit__(*failure)

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes (all that is left if negative).

        Raises: `mailbox.too_large`.
        """
        left = self._limit - self.bytes + 1
        data = self._file.read(left if size < 0 else min(size, left))
        self._take(data)
        return data

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill `buffer` as far as the file goes; returns how far.

        Raises: `mailbox.too_large`.
        """
        left = self._limit - self.bytes + 1
        count = int(self._file.readinto(buffer[:left]))  # type: ignore[attr-defined]
        self._take(buffer[:count])
        return count

    def finish(self) -> None:
        """Read to the end.

        Raises: `mailbox.hash_mismatch` if the whole was not what its name says.
        """
        while self.read(_CHUNK):
            pass
        self._hash.update(*self._short)
        if self._hash.hexdigest() != self._expected:
            raise Refusal("mailbox.hash_mismatch", sha256=self._expected)

    def _take(self, data: Chunk) -> None:
        self.bytes += len(data)
        if self.bytes > self._limit:
            raise Refusal("mailbox.too_large", sha256=self._expected, limit=self._limit)
        if len(data) < _SHORT:
            self._short.append(bytes(data))
            return
        self._hash.update(*self._short, data)
        self._short = []


class Mailbox:
    """The program's side of the folder; its host's is `enclave_host.mailbox`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._in = folder / "in"
        self._out = folder / "out"

    @contextmanager
    def incoming(self, sha256: str, *, limit: int = MAX_FILE_BYTES) -> Iterator[BinaryIO]:
        """Inside the enclave: read `in/<sha256>`. What was read may be used only after the block has ended
        without a refusal: `mailbox.bad_name`, `mailbox.missing`, `mailbox.too_large`,
        `mailbox.hash_mismatch`."""
        with self.opened(sha256) as file, HashedReader(file, sha256, limit) as reader:
            yield cast(BinaryIO, reader)
            reader.finish()

    def outgoing(self, write: Callable[[BinaryIO], FileRef]) -> FileRef:
        """Inside the enclave: let `write` fill a file and put it under the name that this tells, which is of
        what it wrote: what lies there now is the host's. A file that is not finished is removed, so that
        the host never sees half of one under a good name."""
        temporary = self._out / f".{os.urandom(8).hex()}"
        try:
            with temporary.open("xb") as file:
                written = write(file)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(self._out / written.sha256)
        finally:
            temporary.unlink(missing_ok=True)
        return written

    def opened(self, sha256: str) -> BinaryIO:
        """`in/<sha256>` for who hashes it anyhow, and then compares.

        Raises: `mailbox.bad_name`, `mailbox.missing`.
        """
        path = self._in / checked_name(sha256)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise Refusal("mailbox.missing", sha256=sha256) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise Refusal("mailbox.missing", sha256=sha256)
        return os.fdopen(descriptor, "rb")


class BoundedBuffer(BytesIO):
    """Plaintext in the enclave's memory, never in a file: grows to `limit` bytes and refuses more."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def write(self, data: Any, /) -> int:
        """Raises: `mailbox.plaintext_too_large`."""
        if self.tell() + memoryview(data).nbytes > self._limit:
            raise Refusal("mailbox.plaintext_too_large", limit=self._limit)
        return super().write(data)


def checked_name(sha256: str) -> str:
    if not _SHA256.fullmatch(sha256):
        raise Refusal("mailbox.bad_name")
    return sha256
