"""Pages for what went wrong; under /api/ the same in the API's own form."""

from __future__ import annotations

import logging
import secrets
import sys

from django.http import HttpRequest, HttpResponse, HttpResponseServerError, JsonResponse
from django.template import loader
from django.utils import timezone
from django.views.defaults import page_not_found

from federation.errors import body_of

log = logging.getLogger(__name__)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """404: kind words for people, JSON with a code for agents, who ask for no address but those that their
    version knows."""
    if request.path.startswith("/api/agent/"):
        facts = {"address": request.path.removeprefix("/api/agent/")[:100]}
        return JsonResponse(body_of("request.other_version", facts, secrets.token_hex(6)), status=404)
    if request.path.startswith("/api/"):
        return JsonResponse(body_of("request.not_found", {}, secrets.token_hex(6)), status=404)
    return page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """500: a reference that finds the traceback in the log. It asks no database: that may be what broke."""
    reference = secrets.token_hex(6)
    kind = sys.exc_info()[0]
    log.error("internal error %s: %s at %s", reference, kind.__name__ if kind else "?", request.path)
    if request.path.startswith("/api/"):
        return JsonResponse(body_of("internal", {}, reference), status=500)
    at = timezone.now().strftime("%Y-%m-%d %H:%M:%S UTC")
    page = loader.get_template("500.html").render({"reference": reference, "at": at})
    return HttpResponseServerError(page)
