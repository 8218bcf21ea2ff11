"""In which language a person reads: chosen, or seen when signing in."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.signals import user_logged_in
from django.db import transaction
from django.dispatch import receiver
from django.http import HttpRequest
from django.utils.translation import get_language

from contracts.refusal import Refusal
from federation.audit.services import record
from federation.people.models import User
from translations.spoken import LANGUAGES, known


def choose_language(user: User, language: str) -> None:
    """Of pages and mails of this person from now on; empty: as the browser says.

    Raises: `request.invalid`.
    """
    if language not in {"", *LANGUAGES}:
        raise Refusal("request.invalid", fault="there is no such language")
    with transaction.atomic():
        User.objects.filter(pk=user.pk).update(language=language)
        record(user, "person.language_chosen", f"user:{user.pk}", language=language or "browser")


@receiver(user_logged_in)
def remember(request: HttpRequest, user: User, **_sender: Any) -> None:
    """Mails to somebody who has chosen nothing are in the language of the page that they came in by."""
    spoken = known(get_language())
    if user.browser_language != spoken:
        User.objects.filter(pk=user.pk).update(browser_language=spoken)
