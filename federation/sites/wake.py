"""Waking a site's agent: a word over Redis that there is something for it, to whichever process it waits at.

The word is a site's id and nothing else; what there is, the agent is told when it asks. A word that is lost
costs the rest of one wait (enclave_jobs/jobs/line.py), never a job.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from functools import partial

from django.db import transaction
from redis.exceptions import RedisError

from federation.redis_client import client

logger = logging.getLogger(__name__)

CHANNEL = "fedslice:wake"
QUIET_SECONDS = 5.0
"""After a failure nothing is sent for so long: a broker that is away must not slow down every offer."""
_failed_at = float("-inf")


def wake(sites: Iterable[str]) -> None:
    """Wake the agents of these sites (ids) when the transaction commits, or now where there is none."""
    transaction.on_commit(partial(_say, tuple(sites)))


def _say(sites: tuple[str, ...]) -> None:
    global _failed_at
    if not sites or time.monotonic() - _failed_at < QUIET_SECONDS:
        return
    try:
        with client().pipeline(transaction=False) as line:
            for site in sites:
                line.publish(CHANNEL, site)
            line.execute()
    except (RedisError, OSError) as error:
        _failed_at = time.monotonic()
        logger.warning("agents were not woken (%s); they ask by themselves", type(error).__name__)
