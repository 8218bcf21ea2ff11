"""What lies between browsers and us: health checks that ask this process itself, and proxies that end TLS.

Behind TLS we hear of every request from a proxy. What it does not pass on we cannot know, so a request
without it is refused with words for who runs the proxy: a guess would end in endless redirects, or in forms
that are "too old". X-Forwarded-Proto is believed of the proxies in FEDSLICE_PROXIES, of nobody else.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template import loader

from contracts.refusal import Refusal
from error_catalogue import explain
from federation.clients import is_proxy
from federation.errors import body_of
from frontend.views.health import BY_PATH

log = logging.getLogger(__name__)


class Health:
    """Answers /healthz, /livez, /readyz and /metrics before anything that redirects, signs in or asks for the
    host's name: load balancers and Prometheus ask by plain HTTP and by an address."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return BY_PATH.get(request.path_info, self.get_response)(request)


class ThroughProxy:
    """Where FEDSLICE_URL is an https address: only what came through a proxy that is named, and that says how
    and to which host the browser came. A 400 page names what is missing; under /api/ the same as JSON."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        if settings.HTTPS and not settings.PROXIES:
            log.warning("FEDSLICE_URL is https, but FEDSLICE_PROXIES names no proxy: nobody will be answered")

    def __call__(self, request: HttpRequest) -> HttpResponse:
        fault = fault_of(request) if settings.HTTPS else None
        return self.get_response(request) if fault is None else _refused(request, fault)


def fault_of(request: HttpRequest) -> Refusal | None:
    """What the proxy keeps from us: `proxy.not_named`, `proxy.no_scheme`, `proxy.other_host`."""
    peer = request.META.get("REMOTE_ADDR") or "?"
    if not is_proxy(peer):
        return Refusal("proxy.not_named", peer=peer)
    if request.META.get("HTTP_X_FORWARDED_PROTO") not in ("http", "https"):
        return Refusal("proxy.no_scheme", peer=peer)
    host = request.META.get("HTTP_HOST", "")
    if _name_in(host) != _name_in(urlsplit(settings.PUBLIC_URL).netloc):
        return Refusal("proxy.other_host", host=host[:100], url=settings.PUBLIC_URL)
    return None


def _name_in(host: str) -> str | None:
    """The name without the port: many a proxy passes on the one and not the other."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _refused(request: HttpRequest, fault: Refusal) -> HttpResponse:
    log.warning("%s %s", fault.code, fault.facts)
    if request.path_info.startswith("/api/"):
        return JsonResponse(body_of(fault.code, fault.facts, secrets.token_hex(6)), status=400)
    words = explain(fault.code, fault.facts)
    page = loader.get_template("400_proxy.html").render({"words": words})
    return HttpResponse(page, status=400)
