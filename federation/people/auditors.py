"""Whose word counts as an auditor's. An operator invites people and gives roles; if that alone made an
auditor, they could be the second person of every review themselves, under another address.

The first auditor of an installation is whom its operator has invited; each later one needs the yes of an
auditor whose own word counts. Once there has been one, only the command line begins again.
"""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from contracts.refusal import Refusal
from federation.audit.services import record
from federation.people.models import Role, User
from federation.people.permissions import require

UNCONFIRMED = "auditor.unconfirmed"


def counts(user: User) -> bool:
    """Is this person an auditor, and confirmed as one?"""
    return user.role == Role.AUDITOR and user.auditor_confirmed_at is not None


def waits(user: User) -> bool:
    """Is this person an auditor whose word does not count yet?"""
    return user.role == Role.AUDITOR and user.auditor_confirmed_at is None


def require_confirmed(user: User) -> None:
    """Raises: `auditor.unconfirmed` where an auditor's word does not count yet."""
    if waits(user):
        raise Refusal(UNCONFIRMED)


def begin(user: User) -> None:
    """This account has just become an auditor's: the first one of the installation counts at once. Inside of
    the transaction that gave the role."""
    if not User.objects.filter(auditor_confirmed_at__isnull=False).exists():
        _confirm(user)


def can_confirm(by: User, user: User) -> bool:
    """May this person confirm that one as an auditor?"""
    return counts(by) and waits(user) and by.pk != user.pk and user.is_active


def waiting_for(user: User) -> list[User]:
    """The auditors whom this person may confirm, in the order in which they came."""
    if not counts(user):
        return []
    waiting = User.objects.filter(role=Role.AUDITOR, auditor_confirmed_at=None, is_active=True)
    return list(waiting.exclude(pk=user.pk).order_by("pk")[:20])


def confirm(by: User, user: User) -> None:
    """An auditor confirms another: from now on that one's word counts. Again changes nothing.

    Raises: `auth.forbidden`.
    """
    if counts(by) and counts(user):
        return
    require(can_confirm(by, user))
    with transaction.atomic():
        _confirm(user)
        record(by, "person.auditor_confirmed", f"user:{user.pk}")


def confirm_at_console(email: str) -> User:
    """`confirm`, by whoever has the installation's command line: where no auditor is left.

    Raises: `people.unknown`.
    """
    user = User.objects.filter(email=email.strip().lower(), role=Role.AUDITOR).first()
    if user is None:
        raise Refusal("people.unknown")
    with transaction.atomic():
        _confirm(user)
        record(None, "person.auditor_confirmed", f"user:{user.pk}")
    return user


def _confirm(user: User) -> None:
    user.auditor_confirmed_at = timezone.now()
    user.save(update_fields=["auditor_confirmed_at"])
