"""The proxy for an address, from the environment: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY.

Read as curl and Python do (lower case first). NO_PROXY takes names, suffixes, addresses and networks in CIDR.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from contracts.refusal import Refusal


@dataclass(frozen=True)
class Proxy:
    """`url` may hold a password; `variable` and `shown` (host:port) may be shown to anybody."""

    url: str
    variable: str
    parts: SplitResult

    @property
    def host(self) -> str:
        return self.parts.hostname or ""

    @property
    def shown(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def port(self) -> int:
        return self.parts.port or (443 if self.parts.scheme == "https" else 80)


def proxy_for(address: str, environment: Mapping[str, str] | None = None) -> Proxy | None:
    """The proxy on the way to `address` (scheme://host[:port]), or None for a direct connection.

    Raises: `outgoing.bad_proxy` or `outgoing.proxy_kind`; both name the variable.
    """
    found = os.environ if environment is None else environment
    target = urlsplit(address)
    port = target.port or (443 if target.scheme == "https" else 80)
    if is_exempt(target.hostname or "", port, found):
        return None
    for name in (f"{target.scheme}_proxy", "all_proxy"):
        # HTTP_PROXY in capitals can be set by a header of a request under CGI (httpoxy, CVE-2016-5385).
        variables = (name,) if name == "http_proxy" and "REQUEST_METHOD" in found else (name, name.upper())
        for variable in variables:
            if value := found.get(variable, "").strip():
                return _parsed(value, variable)
    return None


def is_exempt(host: str, port: int | None, environment: Mapping[str, str]) -> bool:
    """Whether NO_PROXY names this host: `*`, a name, a suffix, an address, or a network; a port may stand
    behind it. Entries that are none of these match nothing."""
    said = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    address = _address(host)
    for entry in (part.strip().lower() for part in said.split(",")):
        if entry == "*":
            return True
        if address is not None and _in_network(address, entry):
            return True
        name, _, behind = entry.rpartition(":")
        if name and behind.isdigit() and "]" not in behind and name.count(":") == 0:
            if int(behind) != port:
                continue
            entry = name
        suffix = entry.lstrip("*").lstrip(".")
        if suffix and address is None and (host.lower() == suffix or host.lower().endswith(f".{suffix}")):
            return True
    return False


def _in_network(address: ipaddress.IPv4Address | ipaddress.IPv6Address, entry: str) -> bool:
    try:
        return address in ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        return False


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _parsed(value: str, variable: str) -> Proxy:
    url = value if "://" in value else f"http://{value}"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise Refusal("outgoing.bad_proxy", variable=variable) from error
    if parts.scheme and parts.scheme not in ("http", "https"):
        raise Refusal("outgoing.proxy_kind", variable=variable, kind=parts.scheme[:20])
    if not (parts.scheme and parts.hostname):
        raise Refusal("outgoing.bad_proxy", variable=variable)
    return Proxy(url, variable, parts)
