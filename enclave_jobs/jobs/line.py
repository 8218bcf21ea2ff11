"""The line on which agents wait for work (long polling): an ASGI layer around the WSGI application.

1. An agent asks for a lease and says how long it would wait. Django answers as always: who asks, whether that
   may be, and a job if there is one.
2. Where there is none, the view says in a header of its own, which this layer takes off, for which site to
   wait, and the layer keeps the request, without a thread or a database connection, until the site is woken.
3. Then the site is looked at again, and a job goes out as the answer of the kept request.

Without this layer (any WSGI server) the same view sends the agent away with Retry-After, and it asks again.
Everything else goes to the WSGI application unchanged, in a bounded number of threads: each keeps its
database connection, so there are never more of them than threads.

A thousand agents may ask at once, when a coordinator comes back. A token is good for half a minute: if all
of them queued for the threads of a slow machine, it would only ever come to those that are too late. So more
than MOST_ASKING are not queued, but sent away for some seconds, before anything is computed for them.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from a2wsgi import WSGIMiddleware
from django.db import DatabaseError, close_old_connections
from django.utils import timezone

from contracts.agents_api.jobs import LEASE
from contracts.bound_request import AGENTS_API
from enclave_jobs.jobs import leases
from enclave_jobs.jobs.api import RETRY_AFTER_SECONDS, WAIT_HEADER, take
from enclave_jobs.jobs.bell import Bell
from federation.sites.models import Site, SiteState

logger = logging.getLogger(__name__)

THREADS = 16
"""Requests that Django works on at once in a process, and its database connections."""
LOOKING_THREADS = 2
MOST_WAITING = 4
"""Requests of one site that are kept in a process. An agent needs one; a site's key could open thousands."""
MOST_ASKING = 128
"""Requests for work that Django may be working on in a process: one or two seconds of a core, where all is
well, and far from a token's end on a machine that has a tenth of that."""
AWAY_SECONDS = range(3, 12)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class _Wait(NamedTuple):
    """What the view asked for."""

    site: str
    seconds: float
    look_after: float


class _Look(NamedTuple):
    """A second look at a site: the body of a job if there is one, else when it may be worth a third."""

    job: bytes | None
    next_at: datetime | None


class Line:
    """The ASGI application of a coordinator's web process."""

    def __init__(self, wsgi: Any, bell: Bell, threads: int = THREADS) -> None:
        self._django = WSGIMiddleware(wsgi, workers=threads)
        self._bell = bell
        self._looking = ThreadPoolExecutor(LOOKING_THREADS, thread_name_prefix="line")
        self._closing = asyncio.Event()
        self._asking = 0

    def close(self) -> None:
        """Let everybody go who waits: the process ends."""
        self._closing.set()
        self._bell.ring_all()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._django(scope, receive, send)  # type: ignore[arg-type]
            return
        # WSGI cannot tell X_Forwarded_Proto from X-Forwarded-Proto, and proxies overwrite only the latter.
        scope = {**scope, "headers": [header for header in scope["headers"] if b"_" not in header[0]]}
        if scope["path"] != AGENTS_API + LEASE.path:
            await self._django(scope, receive, send)  # type: ignore[arg-type]
            return
        if self._asking >= MOST_ASKING:
            await _answer(send, None, retry_after=random.choice(AWAY_SECONDS))  # noqa: S311  no secret
            return
        began, kept = time.monotonic(), _Kept(send)
        self._asking += 1
        try:
            await self._django(scope, receive, kept)  # type: ignore[arg-type]
        finally:
            self._asking -= 1
        if kept.wait is None:
            return
        if self._bell.waiting(kept.wait.site) < MOST_WAITING:
            await self._keep(kept.wait, began, receive, send)
        else:
            await _answer(send, None, retry_after=RETRY_AFTER_SECONDS)

    async def _keep(self, wait: _Wait, began: float, receive: Receive, send: Send) -> None:
        self._bell.listen()
        gone = asyncio.ensure_future(_left(receive))
        ends, job = began + wait.seconds, None
        try:
            with self._bell.heard(wait.site, began) as rung:
                next_look = time.monotonic() + wait.look_after
                while job is None and time.monotonic() < ends and not self._closing.is_set():
                    woken = asyncio.ensure_future(rung.wait())
                    pause = max(0.0, min(ends, next_look) - time.monotonic())
                    await asyncio.wait((gone, woken), timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                    woken.cancel()
                    if gone.done():
                        return  # nothing was leased to it
                    if not rung.is_set() and time.monotonic() >= ends:
                        break  # it asks again at once, and that is a look
                    rung.clear()
                    loop = asyncio.get_running_loop()
                    look = await loop.run_in_executor(self._looking, _look, wait.site)
                    job, next_look = look.job, ends
                    if look.next_at is not None:
                        next_look = time.monotonic() + max(
                            0.1, (look.next_at - timezone.now()).total_seconds()
                        )
        finally:
            gone.cancel()
        await _answer(send, job)


class _Kept:
    """Takes what Django sends: passes it on, but for the answer that asks to wait."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.wait: _Wait | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            asked = dict(message["headers"]).get(WAIT_HEADER.lower().encode())
            if asked is not None:
                site, seconds, look_after = asked.decode("latin-1").split(" ")
                self.wait = _Wait(site, float(seconds), float(look_after))
        if self.wait is None:
            await self._send(message)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _look(site_id: str) -> _Look:
    """In a thread. A database that is away now is told to the next request, by Django."""
    close_old_connections()
    try:
        site = Site.objects.filter(pk=site_id, state=SiteState.ACTIVE).first()
        if site is None:  # suspended meanwhile: its next request is told
            return _Look(None, None)
        job = take(site)
        if job is not None:
            return _Look(msgspec.json.encode(job), None)
        return _Look(None, leases.next_at(site))
    except DatabaseError as error:
        logger.warning("a site that waits could not be looked at: %s", type(error).__name__)
        return _Look(None, None)
    finally:
        close_old_connections()


async def _answer(send: Send, job: bytes | None, retry_after: int | None = None) -> None:
    headers = [(b"cache-control", b"no-store")]
    if retry_after is not None:
        headers.append((b"retry-after", str(retry_after).encode()))
    if job is not None:
        headers.append((b"content-type", b"application/json"))
    status = 204 if job is None else 200
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": job or b""})
