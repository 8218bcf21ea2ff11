"""Hearing, over Redis, which sites have work: one subscription for each web process, however many wait."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from redis.asyncio import Redis

from federation.redis_client import redis_url
from federation.sites.wake import CHANNEL

logger = logging.getLogger(__name__)

AGAIN_SECONDS = 1.0
KEEP_SECONDS = 60.0


class Bell:
    """Rings for a site when it was woken, and for all when words may have been missed. Belongs to one event
    loop."""

    def __init__(self, url: str) -> None:
        self._url = redis_url(url)
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._rung: dict[str, float] = {}
        self._all_rung = float("-inf")
        self._task: asyncio.Task[None] | None = None

    def listen(self) -> None:
        """Subscribe, if that was not done yet."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._hear())

    @contextmanager
    def heard(self, site: str, since: float) -> Iterator[asyncio.Event]:
        """An event that is set whenever the bell rings for `site`, and already if it has rung since `since`
        (monotonic seconds)."""
        event = asyncio.Event()
        if max(self._rung.get(site, float("-inf")), self._all_rung) >= since:
            event.set()
        self._waiting[site].add(event)
        try:
            yield event
        finally:
            self._waiting[site].discard(event)
            if not self._waiting[site]:
                del self._waiting[site]

    def waiting(self, site: str) -> int:
        """How many of the site's requests wait here."""
        return len(self._waiting.get(site, ()))

    def ring_all(self) -> None:
        """For all who wait now, and who have begun to ask."""
        self._all_rung = time.monotonic()
        for events in self._waiting.values():
            for event in events:
                event.set()

    def ring(self, site: str) -> None:
        """For one site."""
        now = time.monotonic()
        if len(self._rung) > 4096:
            self._rung = {name: at for name, at in self._rung.items() if at > now - KEEP_SECONDS}
        self._rung[site] = now
        for event in self._waiting.get(site, ()):
            event.set()

    async def _hear(self) -> None:
        while True:
            try:
                async with (
                    Redis.from_url(self._url, health_check_interval=15) as redis,
                    redis.pubsub(ignore_subscribe_messages=True) as words,
                ):
                    await words.subscribe(CHANNEL)
                    self.ring_all()  # what was said before we listened is lost
                    async for word in words.listen():
                        self.ring(word["data"].decode("utf-8", "replace"))
            except Exception as error:  # whatever it is: without an ear here, all would wait their time out
                logger.warning("no words from Redis (%s); agents wait their time out", type(error).__name__)
            await asyncio.sleep(AGAIN_SECONDS)
