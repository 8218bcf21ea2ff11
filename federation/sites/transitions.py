"""The life of a site: invited → enrolled → active → suspended or revoked."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from federation.audit.services import actor_name
from federation.sites.models import Site, SiteEvent
from federation.transitions import Pairs, move

SITE: Pairs = frozenset(
    {
        ("invited", "enrolled"),
        ("enrolled", "active"),
        ("active", "suspended"),
        ("suspended", "active"),
        ("invited", "revoked"),
        ("enrolled", "revoked"),
        ("active", "revoked"),
        ("suspended", "revoked"),
    }
)


def apply(site: Site, from_state: str, to_state: str, *, by: Any, note: str = "", **changes: Any) -> bool:
    """Move the site and write the event row, both or neither; False if the site had moved on.

    `by` is a user, an agent's principal, or None for the system. `changes` are set in the same update.
    """
    with transaction.atomic():
        if not move(site, SITE, from_state, to_state, **changes):
            return False
        SiteEvent.objects.create(
            site=site, from_state=from_state, to_state=to_state, actor=actor_name(by), note=note[:500]
        )
        return True
