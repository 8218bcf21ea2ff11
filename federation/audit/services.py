"""Write the audit trail. Services call this inside the transaction of the action that they record."""

from __future__ import annotations

from typing import Any

from contracts.refusal import Fact
from federation.audit.models import AuditEntry

SYSTEM = "system"


def actor_name(actor: Any) -> str:
    """How the trail names who acts: a person's e-mail address, `site:<id>` for an agent, else `system`."""
    if actor is None:
        return SYSTEM
    email = getattr(actor, "email", None)
    return email or str(actor)


def record(actor: Any, action: str, target: str, **facts: Fact) -> AuditEntry:
    """Add one line. `target` is `<kind>:<id>`; facts hold no secret."""
    return AuditEntry.objects.create(actor=actor_name(actor), action=action, target=target, facts=facts)
