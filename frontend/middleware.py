"""What holds for every page: the content security policy, and the second factor where a role needs one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from federation.people import second_factor
from federation.people.models import User

# Everything comes from our own origin. No inline script. Two inline styles are allowed by their hashes: the
# empty one, which Plotly adds and fills by script, and the map style sheet inside the pinned plotly.min.js.
PLOTLY_STYLES = (
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=' "
    "'sha256-ji27qzEtxXZW+7dun6UwjHXJ18e6WAin1VvNtkzIE/o='"
)
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        f"style-src 'self' {PLOTLY_STYLES}",
        "img-src 'self'",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)


class ContentSecurityPolicy:
    """Sets the Content-Security-Policy header (CSP level 3) on every response."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        return response


class SecondFactorRequired:
    """Who must have a second factor and has none sets it up before anything else opens."""

    OPEN = frozenset({"second-factor", "sign-out"})

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, *args: Any) -> HttpResponse | None:
        """None lets the view go on."""
        user = getattr(request, "user", None)
        if not isinstance(user, User) or not second_factor.is_required(user) or second_factor.is_on(user):
            return None
        match = request.resolver_match
        return None if match is not None and match.url_name in self.OPEN else redirect("second-factor")
