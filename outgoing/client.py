"""An HTTP client that takes nothing from the environment but what `proxies` and `tls` have checked."""

from __future__ import annotations

import ssl
from typing import Any

import httpx

from outgoing.proxies import Proxy, proxy_for


def client_for(address: str, context: ssl.SSLContext, **others: Any) -> httpx.Client:
    """A client for one address. It follows no redirect: a token for one host must not reach another.

    Refuses as `proxy_for` does.
    """
    proxy = proxy_for(address)
    return httpx.Client(
        trust_env=False,
        follow_redirects=False,
        verify=context,
        proxy=None if proxy is None else _as_httpx(proxy, context),
        **others,
    )


def _as_httpx(proxy: Proxy, context: ssl.SSLContext) -> httpx.Proxy:
    return httpx.Proxy(proxy.url, ssl_context=context if proxy.parts.scheme == "https" else None)


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
