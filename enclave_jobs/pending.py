"""One message of a kind waits for each run, whoever wants it sent, and however often.

1. Who would send a message claims its place in Redis (SET NX, by the message's own id). Where one waits
   already, its step will see in the database whatever ours would, so nothing is sent.
2. A claim falls by itself after CLAIM_SECONDS. A message that is out keeps its place for WAITING_SECONDS.
3. A step that begins gives its place back before it reads anything: what changes from now on is worth another
   message.

So each wish to send is followed by a step that begins after it, unless a message is lost; then the sweep
(which sends for every run that can move) finds the place free. A sender that was killed between 1 and 2 keeps
it for CLAIM_SECONDS, a broker that lost the message alone for WAITING_SECONDS, one that lost everything not
at all. Where messages wait longer than WAITING_SECONDS, one more of a kind may join them in each such time.
"""

from __future__ import annotations

from typing import Final

from federation.redis_client import client

CLAIM_SECONDS: Final = 2
"""As long as the sweep's interval, within which a message that was never sent is sent again."""
WAITING_SECONDS: Final = 15
"""So long a run stands still at most when a worker dies between taking a message and beginning it."""
_IF_OURS: Final = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call({}) end return 0"
_KEEP: Final = _IF_OURS.format("'expire', KEYS[1], ARGV[2]")
_GIVE_BACK: Final = _IF_OURS.format("'del', KEYS[1]")


def claim(task: str, identifier: str | int, message: str) -> bool:
    """Whether this message is to be sent. All three raise RedisError."""
    return bool(client().set(_place(task, identifier), message, nx=True, ex=CLAIM_SECONDS))


def sent(task: str, identifier: str | int, message: str) -> None:
    """The message is out, unless its step has begun meanwhile."""
    client().eval(_KEEP, 1, _place(task, identifier), message, WAITING_SECONDS)


def begun(task: str, identifier: str | int, message: str) -> None:
    """The message's step begins. One that comes twice, or late, leaves another message its place."""
    client().eval(_GIVE_BACK, 1, _place(task, identifier), message)


def _place(task: str, identifier: str | int) -> str:
    return f"fedslice:waits:{task}:{identifier}"
