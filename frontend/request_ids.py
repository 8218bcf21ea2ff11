"""Every request has an id, which stands in each line that is logged for it, and in its answer."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from http import HTTPStatus

from django.http import HttpRequest, HttpResponse

from federation import logs, otlp, spans

HEADER = "X-Request-ID"


class RequestIds:
    """Takes the id that a proxy or an agent has given, if it is one, else draws one."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.headers.get(HEADER, "")
        request_id = given if logs.is_id(given) else secrets.token_hex(8)
        logs.begin(request=request_id)  # Django tells of a refused request after all middleware, here too
        span = spans.begin("request", request.headers.get(spans.CARRIED, ""), otlp.SERVER)
        logs.also(traceparent=None if span is None else span.carried)
        answer = self.get_response(request)
        answer[HEADER] = request_id
        found = request.resolver_match.kwargs if request.resolver_match else {}
        logs.also(run=found.get("run_id", found.get("run")))
        # The address may hold a secret (an invitation): the page's name is told in its place.
        named = request.resolver_match.view_name if request.resolver_match else ""
        status = {"http.response.status_code": answer.status_code}
        failed = answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR
        spans.end(span, failed=failed, name=f"{request.method} {named}".strip(), **status)
        return answer
