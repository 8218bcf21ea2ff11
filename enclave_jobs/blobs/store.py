"""The content-addressed store of sealed files: `BLOB_DIR/<first two digits>/<sha256>`, or bucket.py's.

The coordinator cannot open what lies here. A file appears under its name only whole, hashed and on disk for
good: it is written beside, synced, and renamed. When the disk is full the write is refused by code
(`blob.storage_full`) and what was stored before is as it was.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import BinaryIO, cast

from django.conf import settings

from contracts.refusal import Refusal

MAX_BLOB_BYTES = 4 << 30
FRAME_BYTES = 1 << 20
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def bucket() -> ModuleType | None:
    """The bucket that stands in the folder's place, if the operator has named one."""
    if "blobs" not in settings.STORAGES:
        return None
    from enclave_jobs.blobs import bucket

    return bucket


def path_of(sha256: str) -> Path:
    """Where the blob of this name lies or would lie. `sha256` is 64 lower-case hex digits, checked by
    callers."""
    return Path(settings.BLOB_DIR) / sha256[:2] / sha256


def part_of(upload_id: str) -> Path:
    """Where the bytes of an unfinished upload lie."""
    return Path(settings.BLOB_DIR) / "parts" / upload_id


@contextmanager
def refusing_when_full() -> Iterator[None]:
    """Turn a full disk, quota or file size limit into the refusal `blob.storage_full`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise Refusal("blob.storage_full") from error
        raise


def write_frame(upload_id: str, offset: int, frame: bytes) -> None:
    """Put `frame` at `offset` of the part file and sync it. Bytes past `offset` from a broken earlier try are
    overwritten, since only the upload's row says how many count.

    Raises: `blob.busy` (another request writes) and `blob.storage_full` (the file keeps `offset` bytes).
    """
    path = part_of(upload_id)
    with refusing_when_full():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _lock(descriptor)
            _put(descriptor, offset, frame)
        finally:
            os.close(descriptor)


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise Refusal("blob.busy") from error


def _put(descriptor: int, offset: int, frame: bytes) -> None:
    try:
        written = 0
        while written < len(frame):
            written += os.pwrite(descriptor, frame[written:], offset + written)
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, min(offset, os.fstat(descriptor).st_size))
        raise


def finish(upload_id: str, sha256: str, size: int) -> None:
    """Check the part file's size and hash and give it its name.

    Raises: `blob.hash_mismatch`; the part file is then gone and the upload begins again.
    """
    part = part_of(upload_id)
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        complete = os.fstat(file.fileno()).st_size == size
    if found != sha256 or not complete:
        part.unlink()
        raise Refusal("blob.hash_mismatch")
    _name(part, sha256)


def store(source: Path, sha256: str) -> int:
    """Copy a file of our own machine (an enclave's output) into the store; its size in bytes.

    Raises: `blob.hash_mismatch`, `blob.storage_full` and `blob.storage_away`.
    """
    if away := bucket():
        return int(away.put(source, sha256))
    part = part_of(f"{sha256}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        with refusing_when_full():
            part.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with source.open("rb") as original, part.open("xb") as copy:
                shutil.copyfileobj(original, copy, FRAME_BYTES)
                copy.flush()
                os.fsync(copy.fileno())
        with part.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                raise Refusal("blob.hash_mismatch")
        size = part.stat().st_size
        _name(part, sha256)
    finally:
        part.unlink(missing_ok=True)
    return size


def _name(part: Path, sha256: str) -> None:
    target = path_of(sha256)
    with refusing_when_full():
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part.replace(target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def is_there(sha256: str) -> bool:
    """Whether the file is stored.

    Raises: `blob.storage_away`.
    """
    away = bucket()
    return bool(away.is_there(sha256)) if away else path_of(sha256).is_file()


def is_empty() -> bool:
    """Whether nothing is stored yet.

    Raises: `blob.storage_away`.
    """
    away = bucket()
    return bool(away.is_empty()) if away else not any(Path(settings.BLOB_DIR).glob("??/*"))


def opened(sha256: str) -> BinaryIO:
    """The file, to be read here. Raises FileNotFoundError; from a bucket it is checked, and may refuse with
    `mailbox.hash_mismatch` and `blob.storage_away`."""
    away = bucket()
    return cast(BinaryIO, away.opened(sha256)) if away else path_of(sha256).open("rb")


def remove(sha256: str) -> None:
    """Nothing happens where it is gone.

    Raises: `blob.storage_away`.
    """
    if away := bucket():
        away.remove(sha256)
    else:
        path_of(sha256).unlink(missing_ok=True)


def read(sha256: str, start: int, end: int) -> Iterator[bytes]:
    """The bytes [start, end) of a stored blob, in pieces of at most FRAME_BYTES."""
    if away := bucket():
        yield from away.read(sha256, start, end)
        return
    with path_of(sha256).open("rb") as file:
        file.seek(start)
        left = end - start
        while left > 0 and (piece := file.read(min(left, FRAME_BYTES))):
            left -= len(piece)
            yield piece
