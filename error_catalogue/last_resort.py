"""What no command has foreseen: a full or read-only disk by a code of its own, anything else by a reference.

A person never sees a traceback: it may quote a row, and it says nothing to her. It is kept in a private file.
"""

from __future__ import annotations

import errno
import os
import secrets
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from contracts.refusal import Refusal

LOG = "errors.log"
MAX_LOG_BYTES = 1 << 20
_CODES = {
    errno.ENOSPC: "no_space",
    errno.EDQUOT: "no_space",
    errno.EROFS: "read_only",
    errno.EACCES: "no_permission",
    errno.EPERM: "no_permission",
}
Whose = Literal["agent", "coordinator"]


def refusal_of(error: OSError, whose: Whose = "agent") -> Refusal:
    """What the operating system refused, with the file where it names one."""
    where = str(error.filename or "a file")[:300]
    code = f"{whose}.{_CODES.get(error.errno or 0, 'file')}"
    return Refusal(code, file=where, fault=error.strerror or type(error).__name__)


def is_of_the_disk(error: OSError) -> bool:
    """Whether a person can fix it: room, permissions, a disk that is read-only."""
    return error.errno in _CODES


def kept_for_us(error: Exception, folder: Path | None, whose: Whose = "agent") -> Refusal:
    """Keep the traceback under a reference, in `folder` or among temporary files; the refusal names both."""
    reference = secrets.token_hex(4)
    story = "".join(traceback.format_exception(error))
    entry = f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {reference}\n{story}\n"
    places: tuple[Callable[[], Path], ...] = (
        lambda: (folder or Path("~/.fedslice-site")).expanduser(),
        lambda: Path(tempfile.gettempdir()),
    )
    for place in places:
        try:
            path = place() / LOG
            _append(path, entry)
        except (OSError, RuntimeError, ValueError):  # RuntimeError: this account has no home
            continue
        return Refusal(f"{whose}.internal", reference=reference, file=str(path))
    return Refusal(f"{whose}.internal", reference=reference, file="nowhere: no folder could be written")


def _append(path: Path, entry: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    with os.fdopen(descriptor, "a") as file:
        if file.tell() > MAX_LOG_BYTES:
            file.truncate(0)
        file.write(entry)
