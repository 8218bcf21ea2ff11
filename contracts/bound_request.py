"""What an agent's token is good for: one method, one path, one body (as RFC 9449 binds a proof).

TLS may end at a proxy, at the hospital or before the coordinator. Who sits there can withhold a request; with
a token bound to it they cannot send another one in its place.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

AGENTS_API = "/api/agent/v1/"
"""Where paths are counted from: a proxy may add or take away what stands before."""


class BoundRequest(NamedTuple):
    """Claims of the token: `htm` is the method, `path` what follows AGENTS_API with the query, `body` the
    SHA-256 (hex) of the body's bytes, also of none."""

    htm: str
    path: str
    body: str


def bind_request(method: str, target: str, body: bytes | None) -> BoundRequest:
    """`target` is the request's path with its query, from AGENTS_API or from any prefix of it on."""
    path = target.partition(AGENTS_API)[2] if AGENTS_API in target else target
    return BoundRequest(method.upper(), path, hashlib.sha256(body or b"").hexdigest())
