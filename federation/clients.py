"""From where a request comes. Behind proxies the address of the connection is the proxy's, and what stands in
X-Forwarded-For is anybody's word, but for what the proxies of this installation appended themselves."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from django.conf import settings
from django.http import HttpRequest

CUSTOMER = 64
"""Bits of an IPv6 address that one customer has: who owns one address there owns all of them."""


def client_of(request: HttpRequest) -> str:
    """The client's address: the last one in X-Forwarded-For, read from the right, that is no proxy named in
    FEDSLICE_PROXIES; the connection's own where that is no such proxy. IPv6 as its /64."""
    here = request.META.get("REMOTE_ADDR") or ""
    hops = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
    while is_proxy(here) and hops:
        said = hops.pop().strip()
        if _parsed(said) is None:
            break
        here = said
    address = _parsed(here)
    if isinstance(address, IPv6Address):
        return str(ip_network((address, CUSTOMER), strict=False))
    return str(address) if address else "unknown"


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_proxy(text: str) -> bool:
    """Whether FEDSLICE_PROXIES names this address."""
    address = _parsed(text)
    return address is not None and any(address in network for network in settings.PROXIES)
