"""TDX quotes from the Linux kernel's configfs-tsm (ABI document configfs-tsm-report, kernel 6.7 on).

Making a folder under `report/` makes a request; writing `inblob` sets its 64 bytes; reading `outblob`
makes the quote. `generation` counts the writes to the request, whoever made them: if it is not exactly
one more than before, somebody else wrote too, or our own write was lost (configfs reports errors of a
binary write only there), and the quote is thrown away.
"""

from __future__ import annotations

import errno
import secrets
import time
from pathlib import Path

from contracts.refusal import Refusal

REPORTS = Path("/sys/kernel/config/tsm/report")
PROVIDER = "tdx_guest"
ATTEMPTS = 5
PAUSE_SECONDS = 0.05

# The kernel says these where the same request can succeed a moment later.
_TRANSIENT = frozenset({errno.EBUSY, errno.EAGAIN, errno.EINTR, errno.ETIMEDOUT, errno.EEXIST})


def quote_from_tsm(reports: Path, report_data: bytes) -> bytes:
    """A TDX quote over 64 bytes. Each attempt is a request of its own under an unpredictable name.

    Raises: `source.unavailable`, `source.wrong_quote` where another kind of TEE answers, and
    `source.contended` after five spoilt attempts.
    """
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE_SECONDS * 2**attempt)
        entry = reports / f"fedslice-{secrets.token_hex(8)}"
        try:
            entry.mkdir(0o700)
        except OSError as error:
            _unless_transient(error, reports)
            continue
        try:
            quote = _attempt(entry, report_data)
        except OSError as error:
            _unless_transient(error, reports)
        else:
            if quote is not None:
                return quote
        finally:
            _remove(entry)
    raise Refusal("source.contended", attempts=ATTEMPTS)


def _attempt(entry: Path, report_data: bytes) -> bytes | None:
    provider = (entry / "provider").read_text().strip()
    if provider != PROVIDER:
        raise Refusal("source.wrong_quote", fault=f"the report interface belongs to {provider[:20]}")
    before = _generation(entry)
    with (entry / "inblob").open("wb", buffering=0) as inblob:
        inblob.write(report_data)
    quote = (entry / "outblob").read_bytes()
    return quote if _generation(entry) == before + 1 else None


def _generation(entry: Path) -> int:
    text = (entry / "generation").read_text().strip()
    if not text.isascii() or not text.isdigit():
        raise Refusal("source.unavailable", path=str(entry / "generation"), fault="it is not a number")
    return int(text)


def _unless_transient(error: OSError, reports: Path) -> None:
    if error.errno not in _TRANSIENT:
        raise Refusal("source.unavailable", path=str(reports), fault=error.strerror or "no answer") from error


def _remove(entry: Path) -> None:
    try:
        entry.rmdir()
    except OSError as error:
        # An entry left behind costs the kernel some memory and nobody anything else.
        if error.errno != errno.ENOENT:
            raise Refusal("source.unavailable", path=str(entry), fault=error.strerror or "stays") from error
