"""A view of the agents' API: who asks, from which machine, with how large a body."""

from __future__ import annotations

from typing import Any

from rest_framework.request import Request
from rest_framework.views import APIView

from contracts.refusal import Refusal
from federation.clients import client_of
from federation.sites import instances
from federation.sites.authentication import AgentPrincipal

MAX_BODY = 1024 * 1024


class AgentView(APIView):
    """A view of the agents' API. `max_body` bounds what is read of a request, in bytes; `cut_off` is the code
    of a body of which only a part has come. Only a view `for_any_machine` answers a second machine that has
    the site's key."""

    max_body = MAX_BODY
    cut_off = "request.cut_off"
    for_any_machine = False

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Refuse a large body before anything else, so that nobody makes us read or verify it."""
        length = request.META.get("CONTENT_LENGTH") or "0"
        if not length.isdecimal() or int(length) > self.max_body:
            raise Refusal("request.too_large", limit=self.max_body)
        if len(request.body) != int(length):
            raise Refusal(self.cut_off, found=len(request.body), expected=int(length))
        super().initial(request, *args, **kwargs)
        if isinstance(request.user, AgentPrincipal) and not self.for_any_machine:
            instances.require(request.user, client_of(request))
        # PostgreSQL stores no NUL, and UTF-8 has no half of a character pair: nothing of ours is called so.
        if not all(name.isprintable() for name in (*kwargs.values(), *request.query_params.values())):
            raise Refusal("request.not_found")


def agent(request: Request) -> AgentPrincipal:
    """Who asks.

    Raises: `auth.missing` if it is not an agent.
    """
    if not isinstance(request.user, AgentPrincipal):
        raise Refusal("auth.missing")
    return request.user
