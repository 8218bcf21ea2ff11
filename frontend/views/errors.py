"""Pages for what went wrong; under /api/ the same in the API's own form."""

from __future__ import annotations

import secrets

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.defaults import page_not_found

from federation.errors import body_of


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """404: kind words for people, JSON with a code for agents."""
    if request.path.startswith("/api/"):
        return JsonResponse(body_of("request.not_found", {}, secrets.token_hex(6)), status=404)
    return page_not_found(request, exception)
