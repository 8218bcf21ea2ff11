"""How often something may be tried for an e-mail address, whether or not it is an account's."""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from federation.people.models import Attempt

LIMITS = {
    Attempt.Kind.SIGN_IN: (10, timedelta(minutes=15)),
    Attempt.Kind.RESET: (3, timedelta(hours=1)),
}
"""So many within so long."""


def wait(kind: Attempt.Kind, address: str) -> int:
    """Seconds until the next try is allowed; 0: now."""
    limit, span = LIMITS[kind]
    recent = Attempt.objects.filter(kind=kind, address=_plain(address), at__gt=timezone.now() - span)
    counted = list(recent.order_by("-at").values_list("at", flat=True)[:limit])
    if len(counted) < limit:
        return 0
    return max(1, round((counted[-1] + span - timezone.now()).total_seconds()))


def note(kind: Attempt.Kind, address: str) -> Attempt:
    """One more try."""
    return Attempt.objects.create(kind=kind, address=_plain(address))


def forgive(kind: Attempt.Kind, address: str) -> None:
    """The person has shown who he is: earlier tries no longer count."""
    Attempt.objects.filter(kind=kind, address=_plain(address)).delete()


def forget_expired() -> int:
    """Drop the tries that count no more; how many."""
    longest = max(span for _limit, span in LIMITS.values())
    with transaction.atomic():
        gone, _ = Attempt.objects.filter(at__lt=timezone.now() - longest).delete()
    return gone


def _plain(address: str) -> str:
    return address.strip().lower()[:254]
