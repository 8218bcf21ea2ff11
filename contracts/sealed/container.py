"""The sealed container: one writer and one reader for streams, shards and states.

    magic ‖ u32 length ‖ header ‖ what the format puts before its frames ‖ frames ‖ what it puts after

`magic` names the format; the header is canonical JSON. SHA-256 of all up to the header's end is the
container's *context*: it goes into the frames' key or into what is signed, and into each frame's associated
data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Annotated, BinaryIO, TypeVar

import msgspec
from msgspec import Meta, Struct

from contracts.canonical import canonical
from contracts.policy import Hex32
from contracts.refusal import Refusal
from contracts.sealed.frames import Chunk, HashBeside, decrypt_frames, encrypt_frames, read_exactly

MAX_HEADER_BYTES = 2 << 20

HeaderType = TypeVar("HeaderType", bound=Struct)


class FileRef(Struct, frozen=True, forbid_unknown_fields=True):
    """A file by its name (SHA-256 of all its bytes, hex) and its length in bytes."""

    sha256: Hex32
    bytes: Annotated[int, Meta(ge=1)]


class _Container:
    """`context` is 32 bytes. All that is read or written is counted, and hashed where there is `content`."""

    def __init__(self, file: BinaryIO, content: HashBeside | None, prefix: bytes) -> None:
        self._file, self._content, self._bytes = file, content, 0
        self.context = hashlib.sha256(prefix).digest()
        self._take(prefix)

    @property
    def ref(self) -> FileRef:
        """Name and length of all so far; only of what is hashed."""
        return FileRef(self._content.hexdigest(), self._bytes)  # type: ignore[union-attr]

    def _take(self, *chunks: Chunk) -> None:
        if self._content is not None:
            self._content.update(*chunks)
        self._bytes += sum(map(len, chunks))


class Writer(_Container):
    """A container that is being written."""

    def put(self, *chunks: Chunk) -> None:
        """Write these bytes."""
        self._take(*chunks)
        for chunk in chunks:
            self._file.write(chunk)

    def frames(self, source: BinaryIO, key: bytes) -> int:
        """Encrypt all of `source` under `key` (32 bytes, for this container alone); returns its length."""
        return encrypt_frames(source, self.put, key=key, context=self.context)


class Reader(_Container):
    """A container that is being read. Nothing of `header` is believed yet."""

    def __init__(self, source: BinaryIO, content: HashBeside | None, magic: bytes) -> None:
        prefix, self.header = read_header(source, magic)
        super().__init__(source, content, prefix)

    def get(self, count: int) -> bytes:
        """`count` bytes, or fewer at the end."""
        data = read_exactly(self._file, count)
        self._take(data)
        return data

    def frames(self, target: BinaryIO, key: bytes, limit: int) -> int:
        """Decrypt the frames into `target`; returns the plaintext's length.

        Raises: `sealing.refused`, or `sealing.too_large` for beyond `limit` bytes.
        """
        return decrypt_frames(self._file, target, self._take, key=key, context=self.context, limit=limit)


@contextmanager
def writing(target: BinaryIO, magic: bytes, header: Struct) -> Iterator[Writer]:
    """Begin a container in `target`. On an exception `target` holds garbage that opens nowhere.

    Raises: `sealing.refused` for a header that breaks its own type's bounds.
    """
    raw = canonical(header)
    parse_header(raw, type(header))
    prefix = magic + len(raw).to_bytes(4, "big") + raw
    target.write(prefix)
    with HashBeside() as content:
        yield Writer(target, content, prefix)


@contextmanager
def reading(source: BinaryIO, target: BinaryIO, magic: bytes, *, hashed: bool = True) -> Iterator[Reader]:
    """Open the container in `source` into `target` (seekable), and see that nothing follows it. If this or
    the block fails, `target` is cut back to where it was: nothing unauthenticated stays in it. Not `hashed`
    where the caller hashes in the same reading: hashing costs more than opening.

    Raises: `sealing.refused`, or as `read_header`.
    """
    start = target.tell()
    try:
        with HashBeside() if hashed else nullcontext() as content:
            yield Reader(source, content, magic)
        if source.read(1):
            raise Refusal("sealing.refused")
    except BaseException:
        target.seek(start)
        target.truncate()
        raise


def read_header(source: BinaryIO, magic: bytes) -> tuple[bytes, bytes]:
    """Read `magic ‖ u32 length ‖ header`: all of it, and the header alone. Nothing in it is believed yet.

    Raises: `sealing.not_sealed`, `sealing.too_large` or `sealing.refused` (cut short).
    """
    if read_exactly(source, len(magic)) != magic:
        raise Refusal("sealing.not_sealed")
    size = read_exactly(source, 4)
    length = int.from_bytes(size, "big")
    if length > MAX_HEADER_BYTES:
        raise Refusal("sealing.too_large", what="the header", limit=MAX_HEADER_BYTES)
    raw = read_exactly(source, length)
    if len(size) < 4 or len(raw) < length:
        raise Refusal("sealing.refused")
    return magic + size + raw, raw


def parse_header(raw: bytes, kind: type[HeaderType]) -> HeaderType:
    """A header in its one canonical form.

    Raises: `sealing.refused`.
    """
    try:
        header = msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal("sealing.refused") from error
    if len(raw) > MAX_HEADER_BYTES or canonical(header) != raw:
        raise Refusal("sealing.refused")
    return header
