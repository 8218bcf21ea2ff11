"""Release statements: the operator publishes what FedSlice's makers have signed; it goes into the log.

The coordinator has no say in it: agents check it against the fingerprint that their people typed.
"""

from __future__ import annotations

import msgspec
from django.db import transaction

from contracts.refusal import Refusal
from contracts.release_statement import parse_statement
from federation.attestation.log import append, take_turn
from federation.attestation.models import LogEntry
from federation.audit.services import record
from transparency_log.entry import LeafEntry

KIND = "release-statement"


def newest() -> LeafEntry | None:
    """The log's entry with the newest statement, or None."""
    row = LogEntry.objects.filter(kind=KIND).order_by("-index").first()
    return None if row is None else msgspec.json.decode(row.data, type=LeafEntry)


def publish(data: bytes) -> bool:
    """Put a statement into the log, from where agents get it. False if it is the newest already.

    Raises: `release_statement.invalid` or `release_statement.older`.
    """
    signed = parse_statement(data)
    with transaction.atomic():
        take_turn()
        known = newest()
        if known is not None:
            last = parse_statement(known.body)
            if last == signed:
                return False
            if last.key == signed.key and signed.statement.sequence <= last.statement.sequence:
                raise Refusal(
                    "release_statement.older", found=signed.statement.sequence, seen=last.statement.sequence
                )
        append(KIND, signed)
        sequence = signed.statement.sequence
        record(None, "release-statement.published", f"release-statement:{sequence}", key=signed.key)
    return True
