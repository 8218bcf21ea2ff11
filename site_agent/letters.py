"""A text that a site admin sends to whoever looks after the hospital's network."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from urllib.parse import urlsplit

from manifest_summary.leaving import ever

_STORAGE: ContextVar[str | None] = ContextVar("storage", default=None)


@contextmanager
def with_storage(address: str | None) -> Iterator[None]:
    """Letters that are written meanwhile name this second destination, if there is one."""
    token = _STORAGE.set(address)
    try:
        yield
    finally:
        _STORAGE.reset(token)


def letter(host: str, port: int, wish: str) -> str:
    """What is asked for, from where to where, and what it is not."""
    places = [f"{host}, TCP port {port}, TLS 1.2 or 1.3"]
    second = urlsplit(_STORAGE.get() or "")
    if second.hostname is not None:
        other = f"{second.hostname}, TCP port {second.port or (443 if second.scheme == 'https' else 80)}"
        if not places[0].startswith(f"{other},"):
            places.append(f"{other}, the same TLS (sealed files alone go there)")
    names = " and ".join(dict.fromkeys(place.partition(",")[0] for place in places))
    return (
        f"Subject: outgoing HTTPS from {socket.gethostname()} to {host}, port {port}\n\n"
        f"We take part in a study with FedSlice. Its site agent on {socket.gethostname()} talks to {names} "
        f"only.\n\n{wish}\n\n"
        f"- Direction: outgoing only. The agent accepts no connections from outside.\n"
        f"- Destination: {'; and '.join(places)}. No other address is needed.\n"
        f"- What goes out: {'; '.join(ever())}.\n"
        f"- Uploads may have some hundred megabytes and last for minutes."
    )
