"""An HTTP client that takes nothing from the environment but what `proxies` and `tls` have checked."""

from __future__ import annotations

import ssl
from typing import Any

import httpx

from outgoing.proxies import Proxy, proxy_for


def client_for(address: str, context: ssl.SSLContext, **others: Any) -> httpx.Client:
    """A client for one address. It follows no redirect: a token for one host must not reach another.

    Raises: as `proxy_for` does.
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
