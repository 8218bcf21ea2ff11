"""Waking a site's agent: a word over Redis that there is something for it, to whichever process it waits at.

The word is a site's id and nothing else; what there is, the agent is told when it asks. A word that is lost
costs the rest of one wait (enclave_jobs/line.py), never a job.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from functools import lru_cache, partial

from django.conf import settings
from django.db import transaction
from redis import Redis
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

CHANNEL = "fedslice:wake"
TIMEOUT = 0.5
QUIET_SECONDS = 5.0
"""After a failure nothing is sent for so long: a broker that is away must not slow down every offer."""
_failed_at = float("-inf")


def wake(sites: Iterable[str]) -> None:
    """Wake the agents of these sites (ids) when the transaction commits, or now where there is none."""
    for site in sites:
        transaction.on_commit(partial(_say, site))


def redis_url(url: str) -> str:
    """A broker's address as redis-py writes it; Celery writes redis+socket:// for a socket."""
    return url.replace("redis+socket://", "unix://")


def _say(site: str) -> None:
    global _failed_at
    if time.monotonic() - _failed_at < QUIET_SECONDS:
        return
    try:
        _client(settings.REDIS_URL).publish(CHANNEL, site)
    except (RedisError, OSError) as error:
        _failed_at = time.monotonic()
        logger.warning("agents were not woken (%s); they ask by themselves", type(error).__name__)


@lru_cache(maxsize=4)
def _client(url: str) -> Redis:
    return Redis.from_url(redis_url(url), socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT)
