"""How long somebody stays signed in: 12 hours at most from signing in, and for the roles that can change
what everybody trusts only while they do something.

What a page asks for by itself is no doing: the caller says which requests are a person's (`touch`).
"""

from __future__ import annotations

import time
from typing import Any

from django.contrib.auth.signals import user_logged_in
from django.contrib.sessions.backends.base import SessionBase
from django.dispatch import receiver
from django.http import HttpRequest

from federation.people.models import Role, User

LONGEST_SECONDS = 12 * 3600
IDLE_SECONDS = {Role.OPERATOR: 30 * 60, Role.AUDITOR: 30 * 60}
TOUCH_SECONDS = 30
"""A session is not written more often than so; idleness is measured that coarsely."""

SIGNED_IN, ACTIVE = "signed_in_at", "active_at"


@receiver(user_logged_in)
def begin(request: HttpRequest, **_sender: Any) -> None:
    """Both clocks start when somebody has signed in."""
    request.session[SIGNED_IN] = request.session[ACTIVE] = time.time()


def touch(session: SessionBase) -> None:
    """The person did something."""
    if time.time() - session.get(ACTIVE, 0) > TOUCH_SECONDS:
        session[ACTIVE] = time.time()


def has_ended(session: SessionBase, user: User) -> str:
    """Why the session counts no more: `people.session_old` or `people.session_idle`; empty while it counts.
    A session without its times is as good as none."""
    now = time.time()
    if not 0 <= now - session.get(SIGNED_IN, 0) < LONGEST_SECONDS:
        return "people.session_old"
    idle = IDLE_SECONDS.get(Role(user.role))
    if idle is not None and not 0 <= now - session.get(ACTIVE, 0) < idle:
        return "people.session_idle"
    return ""
