"""Files of the state folder: private, written whole or not at all, and on the disk before we go on."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, cast

_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)
"""Faults that the system reports of an open file, without its name."""


def private_folder(folder: Path) -> Path:
    """Make `folder` (and its parents) for its owner only, and return it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write a new file that takes the place of `path` when the block ends well; otherwise nothing changes.

    The file has mode 0600, and both it and its name are on the disk when the block is left (fsync).
    """
    private_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield cast(BinaryIO, file)
            _flush(file)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise _named(error, path) from None
    finally:
        temporary.unlink(missing_ok=True)


def write_private(path: Path, data: bytes) -> None:
    """Put `data` at `path`, as `replacing` does."""
    with replacing(path) as file:
        file.write(data)


def create_private(path: Path, data: bytes) -> bool:
    """Put `data` at `path` unless something is there. False, and nothing changed, if there was.

    A hard link either makes the name or fails, so two processes cannot both believe that they were first.
    """
    private_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            _flush(file)
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        raise _named(error, path) from None
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)
    return True


def _named(error: OSError, path: Path) -> OSError:
    if error.errno in _OF_THE_DISK and error.filename is None:
        error.filename = str(path)
    return error


def sync_folder(folder: Path) -> None:
    """Bring the names in `folder` to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
