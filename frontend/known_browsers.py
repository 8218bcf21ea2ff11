"""Browsers in which an account has signed in before: a signed cookie names the account and the browser.

It opens nothing. A known browser's tries of the account's password are counted apart from strangers', so
nobody elsewhere can make its owner wait (OWASP calls this a device cookie).
"""

from __future__ import annotations

import secrets
from typing import TypeVar

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from federation.people.models import User

COOKIE = "known_browser"
DAYS = 180
Response = TypeVar("Response", bound=HttpResponseBase)


def id_of(request: HttpRequest, address: str) -> str:
    """This browser's id where the account of `address` is known in it, else empty."""
    account, _, browser = _read(request).partition(".")
    if not account or not browser:
        return ""
    known = User.objects.filter(pk=account, email=address.strip().lower()).exists()
    return f"{account}.{browser}" if known else ""


def remember(response: Response, request: HttpRequest, user: User) -> Response:
    """Let the browser that gets `response` know that the account signed in there."""
    account, _, browser = _read(request).partition(".")
    if account != str(user.pk) or not browser:
        browser = secrets.token_urlsafe(12)
    response.set_signed_cookie(
        COOKIE,
        f"{user.pk}.{browser}",
        salt=COOKIE,
        max_age=DAYS * 86400,
        httponly=True,
        samesite="Lax",
        secure=settings.HTTPS,
    )
    return response


def _read(request: HttpRequest) -> str:
    read = request.get_signed_cookie(COOKIE, default="", salt=COOKIE, max_age=DAYS * 86400)
    return read or ""
