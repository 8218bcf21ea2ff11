"""The language chooser at the foot of every page."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from federation.people.languages import choose_language
from federation.people.models import User
from translations.spoken import LANGUAGES


@require_POST
def choose(request: HttpRequest) -> HttpResponse:
    """Speak this language in this browser, and with who is signed in; empty: what the browser asks for."""
    wanted, back = request.POST.get("language", ""), request.POST.get("next", "")
    safe = url_has_allowed_host_and_scheme(back, allowed_hosts=None)
    response = redirect(back if safe and back.startswith("/") else "home")
    if wanted not in {"", *LANGUAGES}:
        return response
    if isinstance(request.user, User):
        choose_language(request.user, wanted)
    if wanted:
        response.set_cookie(
            settings.LANGUAGE_COOKIE_NAME,
            wanted,
            max_age=settings.LANGUAGE_COOKIE_AGE,
            samesite="Lax",
            httponly=True,
            secure=settings.HTTPS,
        )
    else:
        response.delete_cookie(settings.LANGUAGE_COOKIE_NAME)
    return response
