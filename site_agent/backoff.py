"""How long to wait before another try: exponential, with full jitter, never longer than the server asks for.

Full jitter (a uniform draw from 0 to the bound) spreads the return of many sites after an outage of the
coordinator: see M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

FIRST_SECONDS = 0.5
LONGEST_SECONDS = 30.0
"""After a long outage all are back within half a minute, evenly spread over it."""
LONGEST_ASKED = 600.0


def pause(attempt: int, asked: float | None = None) -> float:
    """Seconds to wait after failed try number `attempt` (from 0). `asked` is the server's Retry-After."""
    if asked is not None:
        # A little more than asked, so that those who were sent away together do not return together.
        return min(asked, LONGEST_ASKED) * random.uniform(1.0, 1.1)  # noqa: S311  no secret
    return random.uniform(0, min(LONGEST_SECONDS, FIRST_SECONDS * 2**attempt))  # noqa: S311  no secret


def retry_after(header: str | None) -> float | None:
    """Seconds in a Retry-After header (RFC 9110, 10.2.3: a number or a date); None if there is none."""
    if not header:
        return None
    if header.strip().isdecimal():
        return float(header[:9])
    try:
        at = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - time.time())


def until(moment: str) -> float:
    """Seconds from now to an ISO 8601 moment; 0 where it is past or cannot be read."""
    try:
        return max(0.0, datetime.fromisoformat(moment).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0
