"""The host's side of a mailbox: it makes the folder, delivers what the program is to read, and collects."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Self

from contracts.refusal import Refusal
from contracts.sealed.container import FileRef
from enclave.programs.mailbox import MAX_FILE_BYTES, HashedReader, Mailbox, checked_name

_CHUNK = 1 << 20


class HostMailbox(Mailbox):
    """Both sides of the folder: a host that looks at its own files uses `incoming` as well."""

    @classmethod
    def create(cls, folder: Path) -> Self:
        """Make the folder, for its owner only."""
        for part in (folder, folder / "in", folder / "out"):
            part.mkdir(mode=0o700, parents=True, exist_ok=True)
            part.chmod(0o700)
        return cls(folder)

    def deliver(self, file: Path, sha256: str) -> FileRef:
        """Put a copy of `file` at `in/<sha256>`.

        Raises: `mailbox.hash_mismatch`.
        """
        target = self._in / checked_name(sha256)
        temporary = self._in / f".{os.urandom(8).hex()}"
        try:
            with (
                file.open("rb") as source,
                temporary.open("xb") as copy,
                HashedReader(source, sha256, MAX_FILE_BYTES) as reader,
            ):
                shutil.copyfileobj(reader, copy, _CHUNK)
                reader.finish()
            temporary.rename(target)
        finally:
            temporary.unlink(missing_ok=True)
        return FileRef(sha256, reader.bytes)

    def collect(self, sha256: str) -> Path:
        """Where the program's file lies.

        Raises: `mailbox.bad_name` or `mailbox.missing`.
        """
        path = self._out / checked_name(sha256)
        if not path.is_file() or path.is_symlink():
            raise Refusal("mailbox.missing", sha256=sha256)
        return path

    def discard(self, sha256: str) -> None:
        """Remove this file from both sides; it need not be there."""
        for side in (self._in, self._out):
            (side / checked_name(sha256)).unlink(missing_ok=True)
