"""A new password by mail. The web process does the same for every address; whether there is an account, only
the worker that mails finds out, so neither the answer nor its time tells."""

from __future__ import annotations

import logging
from datetime import timedelta
from smtplib import SMTPException

from django.conf import settings
from django.contrib.auth.tokens import default_token_generator
from django.core.mail import send_mail
from django.db import transaction
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode
from django.utils.translation import gettext as _
from django.utils.translation import override

from federation.audit.services import record
from federation.people import pace
from federation.people.models import ResetWish, User

log = logging.getLogger(__name__)

KEPT = timedelta(hours=1)
FRESH = timedelta(minutes=30)
"""A mail that could not be sent for so long is not sent any more."""


def ask(address: str, client: str) -> None:
    """Have a link mailed to this address, if it is an account's. Beyond the limit of an address, or of the
    client that asks, nothing happens.

    Raises: `people.pace_unknown`.
    """
    if pace.admit_reset(address, client):
        ResetWish.objects.create(address=address.strip().lower()[:254])


def send_due() -> int:
    """Mail what was asked for; how many went out. May run anywhere, twice, and at once."""
    since = timezone.now() - FRESH
    due = ResetWish.objects.filter(handled_at=None, at__gt=since)
    return sum(_send(wish) for wish in due.order_by("pk"))


def forget_expired() -> int:
    """Drop the wishes that count no more; how many."""
    with transaction.atomic():
        gone, _ = ResetWish.objects.filter(at__lt=timezone.now() - KEPT).delete()
    return gone


def _send(wish: ResetWish) -> bool:
    mine = ResetWish.objects.filter(pk=wish.pk, handled_at=None)
    if not mine.update(handled_at=timezone.now()):
        return False
    user = User.objects.filter(email=wish.address, is_active=True).first()
    if user is None or not user.has_usable_password():
        return False
    name = urlsafe_base64_encode(force_bytes(user.pk))
    link = f"{settings.PUBLIC_URL}/password/{name}/{default_token_generator.make_token(user)}/"
    with override(user.reads):
        subject, text = _("A new password for FedSlice"), render_to_string("people/reset.txt", {"link": link})
    try:
        send_mail(subject, text, None, [user.email])
    except (OSError, SMTPException) as error:
        log.warning("a link for a new password could not be sent: %s", type(error).__name__)
        ResetWish.objects.filter(pk=wish.pk).update(handled_at=None)
        return False
    record(None, "person.reset_mailed", f"user:{user.pk}")
    return True


def done(user: User, client: str) -> None:
    """The link was used, and the new password is in force: wrong old ones from here no longer count."""
    with transaction.atomic():
        record(user, "person.password_reset", f"user:{user.pk}")
    pace.forgive(user.email, client)
