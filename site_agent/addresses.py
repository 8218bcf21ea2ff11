"""Where the coordinator is, whether the way there is fit to be used, and what can go wrong on it."""

from __future__ import annotations

import ipaddress
import ssl
from urllib.parse import urlsplit

import httpx

from contracts.refusal import Refusal
from site_agent.words import printable


def base_url(address: str, *, insecure_http: bool = False) -> str:
    """The coordinator's address in its one spelling, scheme://host[:port][/path].

    Refuses with `agent.bad_address`, and with `agent.insecure_http` for plain HTTP to another machine.
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


def tls_context(ca_bundle: str | None) -> ssl.SSLContext | bool:
    """What httpx verifies certificates with: the usual authorities, and those in the bundle if one is given.

    Refuses with `agent.bad_ca_bundle`.
    """
    if ca_bundle is None:
        return True
    try:
        context = ssl.create_default_context()
        context.load_verify_locations(cafile=ca_bundle)
    except (OSError, ssl.SSLError) as error:
        fault = error.strerror or type(error).__name__
        raise Refusal("agent.bad_ca_bundle", file=ca_bundle, fault=fault) from error
    return context


def in_plain_words(error: httpx.TransportError) -> str:
    """What went wrong on the way, in words for somebody who does not know our libraries."""
    text = str(error)
    causes = (
        ("CERTIFICATE_VERIFY_FAILED", "its TLS certificate is not trusted here (a proxy that opens TLS?)"),
        ("Name or service not known", "its name is not known to this machine's DNS"),
        ("nodename nor servname", "its name is not known to this machine's DNS"),
        ("Temporary failure in name resolution", "this machine's DNS does not answer"),
        ("Connection refused", "nothing listens there"),
        ("Network is unreachable", "there is no network"),
        ("No route to host", "there is no route to it"),
    )
    for mark, words in causes:
        if mark in text:
            return words
    if isinstance(error, httpx.TimeoutException):
        return "it did not answer in time"
    if isinstance(error, httpx.ProxyError):
        return "the proxy did not let us through"
    if isinstance(error, httpx.NetworkError | httpx.ProtocolError):
        return "the connection broke off"
    return type(error).__name__
