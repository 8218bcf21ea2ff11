"""Export a part of the log, or all of it, as a bundle that anyone can check again offline."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from contracts.log.note import parse_vkey
from contracts.refusal import Refusal
from federation.attestation import log
from federation.attestation.models import Checkpoint, LogEntry, StoredEvidence
from federation.audit.services import record
from federation.people.models import Role, User
from transparency_log.bundle import write_bundle

EARLIER = 20


def export(by: User | None, path: Path, *, first: int = 0, last: int | None = None) -> int:
    """Write the entries `first` to `last` (all by default) to a new file; returns how many.

    Quotes are inside, and with them the names of platforms (PPID): for auditors and the command line only.

    Raises: `auth.forbidden` or `log.bad_range`.
    """
    if by is not None and by.role != Role.AUDITOR:
        raise Refusal("auth.forbidden")
    head = log.checkpoint()
    end = head.size if last is None else last + 1
    if not 0 <= first <= end <= head.size:
        raise Refusal("log.bad_range", size=head.size, asked=end - 1)
    earlier = Checkpoint.objects.filter(size__lt=head.size).order_by("-size")[:EARLIER]
    write_bundle(
        path,
        checkpoint=head.note,
        log_key=parse_vkey(log.verifier_key()),
        store=log.DatabaseStore(),
        entries=_entries(first, end),
        attachment=_attachment,
        created=int(time.time()),
        earlier=[row.note for row in earlier],
    )
    record(by, "log.exported", "log:bundle", first=first, entries=end - first)
    return end - first


def _entries(first: int, end: int) -> Iterator[tuple[int, bytes]]:
    rows: Any = LogEntry.objects.filter(index__gte=first, index__lt=end).order_by("index")
    for row in rows.iterator():
        yield row.index, row.data.encode()


def _attachment(sha256: str) -> bytes | None:
    row = StoredEvidence.objects.filter(pk=sha256).first()
    return None if row is None else bytes(row.data)
