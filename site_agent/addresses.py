"""Where the coordinator is, whether the way there is fit to be used, and what can go wrong on it."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from contracts.refusal import Refusal
from site_agent.formatting import printable


def base_url(address: str, *, insecure_http: bool = False) -> str:
    """The coordinator's address in its one spelling, scheme://host[:port][/path].

    Raises: `agent.bad_address`, and `agent.insecure_http` for plain HTTP to another machine.
    """
    try:
        parts = urlsplit(address.strip())
        port = f":{parts.port}" if parts.port else ""
    except ValueError as error:
        raise Refusal("agent.bad_address", address=printable(address, 200)) from error
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment or parts.username:
        raise Refusal("agent.bad_address", address=printable(address, 200))
    if parts.scheme == "http" and not insecure_http and not _is_loopback(host):
        raise Refusal("agent.insecure_http", host=printable(host, 200))
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}{port}{parts.path.rstrip('/')}"


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
