"""Read the audit trail, page by page by key, so that page 1,000 costs what page 1 costs."""

from __future__ import annotations

from django.db.models import QuerySet

from federation.audit.models import AuditEntry

PAGE = 50


def page(
    entries: QuerySet[AuditEntry], *, before: int | None = None, action: str = "", size: int = PAGE
) -> list[AuditEntry]:
    """Up to `size` entries older than the one with id `before`, newest first; `action` is a dotted prefix."""
    if before is not None:
        entries = entries.filter(pk__lt=before)
    if action:
        entries = entries.filter(action__startswith=action)
    return list(entries.order_by("-pk")[:size])
