"""News as a person finds it in the browser: what is unread, and what has been read."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import QuerySet
from django.utils import timezone

from federation.notices.models import Notice
from federation.people.models import User

KEPT_DAYS = 90
MANY = 99
"""Up to here unread news are counted; beyond it the bell says that there are more."""


def news_of(user: User) -> QuerySet[Notice]:
    """This person's news, newest first."""
    found = Notice.objects.filter(user=user).order_by("-pk")
    return found.select_related("event__study__sweep_point__sweep", "event__run__study", "event__site")


def unread(user: User) -> int:
    """How many are unread, up to one more than MANY."""
    return Notice.objects.filter(user=user, read_at=None)[: MANY + 1].count()


def mark_read(user: User, pk: int | None = None) -> None:
    """One of them is read, or all; again changes nothing. What is another person's stays as it is."""
    mine = Notice.objects.filter(user=user, read_at=None)
    (mine if pk is None else mine.filter(pk=pk)).update(read_at=timezone.now())


def past() -> QuerySet[Notice]:
    """News that are so old that nobody looks for them; the events stay."""
    return Notice.objects.filter(event__at__lt=timezone.now() - timedelta(days=KEPT_DAYS))
