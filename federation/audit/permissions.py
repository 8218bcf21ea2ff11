"""Who may read the audit trail: operators and auditors all of it, a site admin what concerns their site."""

from __future__ import annotations

from django.db.models import Q, QuerySet

from federation.audit.models import AuditEntry
from federation.people.models import Role, User


def can_read(user: User) -> bool:
    """Open the trail at all: whoever may see some of it."""
    return user.role in (Role.OPERATOR, Role.AUDITOR, Role.SITE_ADMIN)


def visible_to(user: User) -> QuerySet[AuditEntry]:
    """The entries that this person may read, newest first."""
    if user.role in (Role.OPERATOR, Role.AUDITOR):
        return AuditEntry.objects.all()
    if user.role == Role.SITE_ADMIN:
        own = f"site:{user.site_id}"
        return AuditEntry.objects.filter(Q(actor=own) | Q(target=own))
    return AuditEntry.objects.none()
