"""Every request has an id, which stands in each line that is logged for it, and in its answer."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from federation import logs

HEADER = "X-Request-ID"


class RequestIds:
    """Takes the id that a proxy or an agent has given, if it is one, else draws one."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.headers.get(HEADER, "")
        request_id = given if logs.is_id(given) else secrets.token_hex(8)
        logs.begin(request=request_id)  # Django tells of a refused request after all middleware, here too
        answer = self.get_response(request)
        answer[HEADER] = request_id
        return answer
