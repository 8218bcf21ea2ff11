"""For load balancers, container engines and Prometheus: does this process answer, is it ready, how is the
whole."""

from __future__ import annotations

import hmac

from django.conf import settings
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse

from enclave_jobs import health, metrics


def healthz(request: HttpRequest) -> HttpResponse:
    """200 and "ok"; a database that is out of reach makes it 500."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return HttpResponse("ok\n", content_type="text/plain")


def livez(request: HttpRequest) -> HttpResponse:
    """200 while this process answers at all: what it needs is no reason to start it again."""
    return HttpResponse("ok\n", content_type="text/plain")


def readyz(request: HttpRequest) -> HttpResponse:
    """200 when requests may be sent here, else 503; what was looked at, by name."""
    found = health.readiness()
    return JsonResponse(found, status=200 if health.is_ready(found) else 503)


def read_metrics(request: HttpRequest) -> HttpResponse:
    """For who shows the token of the state folder (`metrics-token`), from wherever: behind a proxy on this
    machine every request comes from loopback, so an address proves nothing."""
    scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    known = hmac.compare_digest(token.strip().encode(), settings.METRICS_TOKEN.encode())
    if scheme.lower() != "bearer" or not known:
        answer = HttpResponse(
            "the token in metrics-token is missing\n", status=401, content_type="text/plain"
        )
        answer["WWW-Authenticate"] = "Bearer"
        return answer
    return HttpResponse(metrics.text(), content_type="text/plain; version=0.0.4; charset=utf-8")


BY_PATH = {"/healthz": healthz, "/livez": livez, "/readyz": readyz, "/metrics": read_metrics}
