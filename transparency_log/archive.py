"""Reading a zip file that someone else made: names, sizes and kinds of members are checked before anything is
unpacked.

Nothing is ever written to disk, only the names of the bundle's own format are let in, the sizes that the
members' headers promise are limited together, and no member gives more than it promised.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from contracts.refusal import Refusal

MAX_FILE_BYTES = 2 << 30
MAX_UNPACKED_BYTES = 4 << 30
MAX_MEMBERS = 500_000
MAX_MEMBER_BYTES = 4 << 20  # of a member that is read whole
MAX_LINE_BYTES = 2 << 20
CHUNK_BYTES = 1 << 18
END_BYTES = 22  # of the end record of a zip file without a comment

ATTACHMENTS = "attachments/"
_NAMES = re.compile(r"bundle\.json|checkpoint|(earlier|entries|proofs)\.jsonl|attachments/[0-9a-f]{64}")
_BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, RuntimeError)


class Archive:
    """An opened bundle file.

    Raises: `bundle.unusable` or `bundle.too_large`, whatever is done with it.
    """

    def __init__(self, path: Path, *, unpacked: int = MAX_UNPACKED_BYTES) -> None:
        self._limit = unpacked
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise Refusal("bundle.too_large", what="the file", limit=MAX_FILE_BYTES)
            self._zip = zipfile.ZipFile(path)
        except _BROKEN as error:
            unread = isinstance(error, OSError) and error.strerror
            fault = f"it cannot be read: {unread}" if unread else "it is not a zip file"
            raise Refusal("bundle.unusable", fault=fault) from error
        try:
            self._members = self._checked(self._zip.infolist())
            self._check_edges(path)
        except BaseException:
            self.close()
            raise

    def has(self, name: str) -> bool:
        return name in self._members

    def read(self, name: str) -> bytes:
        """A whole member, at most MAX_MEMBER_BYTES."""
        return b"".join(self._chunks(name, MAX_MEMBER_BYTES))

    def lines(self, name: str) -> Iterator[bytes]:
        """The lines of a member, without their newlines; each of them ends in one."""
        pending = b""
        for chunk in self._chunks(name, self._limit):
            *whole, pending = (pending + chunk).split(b"\n")
            yield from whole
            if len(pending) > MAX_LINE_BYTES:
                raise Refusal("bundle.too_large", what=f"a line of {name}", limit=MAX_LINE_BYTES)
        if pending:
            raise Refusal("bundle.unusable", fault=f"the last line of {name} is cut")

    def attachments(self) -> list[str]:
        """The names (SHA-256) of all attachments."""
        return [name.removeprefix(ATTACHMENTS) for name in self._members if name.startswith(ATTACHMENTS)]

    def has_attachment(self, sha256: str) -> bool:
        """Whether there is a member of this name, whatever it holds."""
        return self.has(ATTACHMENTS + sha256)

    def attachment(self, sha256: str) -> bytes | None:
        """The attachment with this hash; None where the bundle has none or what it has was changed."""
        if not self.has(ATTACHMENTS + sha256):
            return None
        data = self.read(ATTACHMENTS + sha256)
        return data if hashlib.sha256(data).hexdigest() == sha256 else None

    def close(self) -> None:
        self._zip.close()

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _chunks(self, name: str, limit: int) -> Iterator[bytes]:
        if name not in self._members:
            raise Refusal("bundle.unusable", fault=f"it holds no {name}")
        left = limit
        try:
            with self._zip.open(self._members[name]) as member:
                while chunk := member.read(CHUNK_BYTES):
                    left -= len(chunk)
                    if left < 0:
                        raise Refusal("bundle.too_large", what=name, limit=limit)
                    yield chunk
        except _BROKEN as error:
            raise Refusal("bundle.unusable", fault=f"{name} cannot be unpacked") from error

    def _check_edges(self, path: Path) -> None:
        """Nothing stands before the first member or behind the last, and there is no comment."""
        first = min((member.header_offset for member in self._zip.infolist()), default=0)
        with path.open("rb") as file:
            begins = file.read(4)
            file.seek(-END_BYTES, os.SEEK_END)
            ends = file.read(4)
        fine = ends == b"PK\x05\x06" and begins == (b"PK\x03\x04" if self._members else ends)
        if self._zip.comment or first != 0 or not fine:
            raise Refusal("bundle.unusable", fault="there is something beside the members")

    def _checked(self, members: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
        if len(members) > MAX_MEMBERS:
            raise Refusal("bundle.too_large", what="the number of members", limit=MAX_MEMBERS)
        checked: dict[str, zipfile.ZipInfo] = {}
        for member in members:
            name, mode = member.orig_filename, member.external_attr >> 16
            faults = {
                "has a name that no bundle uses": not _NAMES.fullmatch(name) or member.filename != name,
                "stands there twice": name in checked,
                "is encrypted": bool(member.flag_bits & 0x1),
                "is compressed in an unusual way": member.compress_type
                not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED),
                "has a comment": bool(member.comment),
                "is not a plain file": name.endswith("/") or (stat.S_IFMT(mode) not in (0, stat.S_IFREG)),
            }
            for fault, found in faults.items():
                if found:
                    # ascii: a name from elsewhere moves no cursor and turns no direction.
                    raise Refusal("bundle.unusable", fault=f"its member {name[:100]!a} {fault}")
            checked[name] = member
        if sum(member.file_size for member in members) > self._limit:
            raise Refusal("bundle.too_large", what="all of it", limit=self._limit)
        return checked
