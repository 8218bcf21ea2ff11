"""What a pickled checkpoint claims to hold, before anything of it is unpacked."""

from __future__ import annotations

import zipfile
from typing import BinaryIO

from contracts.refusal import Refusal

MAX_MEMBERS = 200_000
MAX_PROGRAM = 64 << 20
"""Bytes of the pickle itself; the numbers lie beside it."""


def look_into(file: BinaryIO, name: str) -> None:
    """A zip holds its members as they are, one after the other: nothing in it is larger than the file.
    Files of torch before 1.6 are no zips and are bounded by memory alone.

    Raises: `convert.bomb` or `convert.damaged`.
    """
    size = file.seek(0, 2)
    file.seek(0)
    start = file.read(4)
    file.seek(0)
    if start != b"PK\x03\x04":
        return
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise Refusal("convert.damaged", file=name, fault=str(error)[:200]) from error
    finally:
        file.seek(0)
    if len(members) > MAX_MEMBERS:
        raise Refusal("convert.bomb", file=name, fault=f"{len(members)} members")
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED:
            raise Refusal("convert.bomb", file=name, fault=f"{member.filename[-80:]} is compressed")
        if member.filename.endswith(".pkl") and member.file_size > MAX_PROGRAM:
            raise Refusal(
                "convert.bomb", file=name, fault=f"{member.file_size} bytes of {member.filename[-80:]}"
            )
    if (total := sum(member.file_size for member in members)) > size:
        raise Refusal("convert.bomb", file=name, fault=f"members of {total} bytes in a file of {size}")
