"""Read the audit trail, page by page by key, so that page 1,000 costs what page 1 costs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import QuerySet

from federation.audit.models import AuditEntry

PAGE = 50


@dataclass(frozen=True)
class AuditFilter:
    """What a reader asks for; what is empty or None restricts nothing. `action` is a dotted prefix, `target`
    a `<kind>:<id>` or the beginning of one. Times are [since, until)."""

    actor: str = ""
    action: str = ""
    target: str = ""
    since: datetime | None = None
    until: datetime | None = None


def narrowed(entries: QuerySet[AuditEntry], wanted: AuditFilter) -> QuerySet[AuditEntry]:
    """The entries that fit. Prefixes are ranges, so that each filter is read from its index."""
    if wanted.actor:
        entries = entries.filter(actor=wanted.actor)
    for name in ("action", "target"):
        prefix = getattr(wanted, name)
        if prefix:
            entries = entries.filter(**{f"{name}__gte": prefix, f"{name}__lt": prefix + "\U0010ffff"})
    if wanted.since:
        entries = entries.filter(at__gte=wanted.since)
    if wanted.until:
        entries = entries.filter(at__lt=wanted.until)
    return entries


def page(
    entries: QuerySet[AuditEntry], *, before: int | None = None, action: str = "", size: int = PAGE
) -> list[AuditEntry]:
    """Up to `size` entries older than the one with id `before`, newest first; `action` is a dotted prefix."""
    if before is not None:
        entries = entries.filter(pk__lt=before)
    if action:
        entries = entries.filter(action__startswith=action)
    return list(entries.order_by("-pk")[:size])
