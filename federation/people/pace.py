"""How often something may be tried: by whom, from where, and for which e-mail address, be it an account's or
not. The counters are moving windows of the library `limits` in the coordinator's Redis.

Three budgets bound wrong passwords, because each alone fails somebody: one for a client and an address
together, so that a stranger's mistakes are not mine; one for a client over all addresses, against spraying;
one for an address over all clients, against many machines. A browser in which the account signed in before
(`known_browsers`) has a budget of its own, which no stranger can use up. Tries are counted before the
password is looked at, so a hundred at once are no way around.
"""

from __future__ import annotations

import hashlib
import logging
import time
from functools import lru_cache
from math import ceil

from django.conf import settings
from limits import RateLimitItem, RateLimitItemPerHour, RateLimitItemPerMinute
from limits.storage import RedisStorage
from limits.strategies import MovingWindowRateLimiter
from redis.exceptions import RedisError

from contracts.refusal import Refusal

log = logging.getLogger(__name__)

KNOWN = RateLimitItemPerMinute(10, 15, namespace="sign-in-known")
PAIR = RateLimitItemPerMinute(10, 15, namespace="sign-in-pair")
CLIENT = RateLimitItemPerMinute(50, 15, namespace="sign-in-client")
ACCOUNT = RateLimitItemPerHour(100, 1, namespace="sign-in-account")
RESET = RateLimitItemPerHour(3, 1, namespace="reset")
RESET_CLIENT = RateLimitItemPerHour(20, 1, namespace="reset-client")


def admit_sign_in(address: str, client: str, browser: str = "") -> None:
    """Count one try of a password for `address`. `client` is where it comes from (`clients.client_of`);
    `browser` the id of a browser that this account is known in, or empty.

    Raises: `people.too_many_tries`, `people.client_slowed` or `people.account_slowed`, each with the
    `minutes` to wait, or `people.pace_unknown` while the counters cannot be reached: a check whose input is
    missing has failed.
    """
    if browser:
        _take(KNOWN, "people.too_many_tries", address, browser)
        return
    _take(PAIR, "people.too_many_tries", address, client)
    _take(CLIENT, "people.client_slowed", client)
    _take(ACCOUNT, "people.account_slowed", address)


def forgive(address: str, client: str, browser: str = "") -> None:
    """The person has shown who they are: their own earlier mistakes no longer count. What strangers did
    stays."""
    try:
        _limiter().clear(PAIR, *_key(address, client))
        if browser:
            _limiter().clear(KNOWN, *_key(address, browser))
    except RedisError as error:
        log.warning("a counter could not be cleared: %s", type(error).__name__)


def admit_reset(address: str, client: str) -> bool:
    """Count a wish for a link to `address`; whether one may go out.

    Raises: `people.pace_unknown`.
    """
    try:
        return _limiter().hit(RESET_CLIENT, *_key(client)) and _limiter().hit(RESET, *_key(address))
    except RedisError as error:
        raise _unknown(error) from error


def _take(limit: RateLimitItem, code: str, *who: str) -> None:
    try:
        if _limiter().hit(limit, *_key(*who)):
            return
        opens = _limiter().get_window_stats(limit, *_key(*who)).reset_time
    except RedisError as error:
        raise _unknown(error) from error
    raise Refusal(code, minutes=max(1, ceil((opens - time.time()) / 60)))


def _unknown(error: RedisError) -> Refusal:
    log.error("the counters of tries cannot be reached: %s", type(error).__name__)
    return Refusal("people.pace_unknown")


def _key(*who: str) -> list[str]:
    # Redis is told no address of a person or a machine: hashes count as well.
    return [hashlib.sha256(one.strip().lower().encode()).hexdigest()[:32] for one in who]


def _limiter() -> MovingWindowRateLimiter:
    return _limiter_at(settings.REDIS_URL)


@lru_cache(maxsize=4)
def _limiter_at(url: str) -> MovingWindowRateLimiter:
    # Celery writes redis+socket:// for what redis-py and limits call a unix address.
    return MovingWindowRateLimiter(
        RedisStorage(
            url.replace("redis+socket://", "redis+unix://"), key_prefix="fedslice", socket_timeout=3.0
        )
    )
