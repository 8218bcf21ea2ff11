"""The coordinator's Redis, for what is no task: short words and marks. The database stays the truth."""

from __future__ import annotations

from functools import lru_cache

from django.conf import settings
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

TIMEOUT = 0.5


def redis_url(url: str) -> str:
    """A broker's address as redis-py writes it; Celery writes redis+socket:// for a socket."""
    return url.replace("redis+socket://", "unix://")


def client() -> Redis:
    """A client that waits for nobody: a Redis that is away is an answer (RedisError) within a second."""
    return _client(settings.REDIS_URL)


@lru_cache(maxsize=4)
def _client(url: str) -> Redis:
    # Once more at once: a connection that has lain idle may have been closed by the other side.
    again = Retry(NoBackoff(), 1)
    return Redis.from_url(redis_url(url), socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, retry=again)
