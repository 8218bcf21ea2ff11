"""In which language a page is: what its reader has chosen, else what their browser asks for, else English."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.middleware.locale import LocaleMiddleware
from django.utils import translation

from federation.people.models import User
from translations.spoken import ENGLISH

MACHINES = ("/api/", "/healthz", "/metrics")
"""Who asks here reads codes. Words in an answer are for its log: English."""


class OfTheBrowser(LocaleMiddleware):
    """The cookie of the chooser, or the header Accept-Language (RFC 9110, 12.5.4)."""

    def process_request(self, request: HttpRequest) -> None:
        """Activate it."""
        super().process_request(request)
        if request.path_info.startswith(MACHINES):
            translation.activate(ENGLISH)
            request.LANGUAGE_CODE = ENGLISH


class OfThePerson:
    """What somebody who is signed in has chosen goes before the browser's."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not request.path_info.startswith(MACHINES):
            user = request.user
            if isinstance(user, User) and user.language in dict(settings.LANGUAGES):
                translation.activate(user.language)
                request.LANGUAGE_CODE = user.language
        return self.get_response(request)
