"""What a page says of a study or run that an older version made, and whether a clone can help."""

from __future__ import annotations

from typing import Any

from contracts.refusal import Refusal
from error_catalogue import Explained, explain
from federation.frozen import Frozen
from federation.people.models import User
from federation.studies import permissions
from federation.studies.models import Study
from federation.studies.plan import read


def unrunnable(found: Frozen, study: Study, user: User) -> dict[str, Any]:
    """For `studies/older.html`: why nothing can run by this manifest, None where it can, and whether this
    person can clone its study."""
    fault = found.fault
    return {
        "older": explain(fault.code, fault.facts) if fault is not None else None,
        "clonable": permissions.can_create(user) and unreadable_plan(study) is None,
    }


def unreadable_plan(study: Study) -> Explained | None:
    """Why this study's settings cannot be read, so that neither the wizard nor a clone of it can work; None
    where they can."""
    try:
        read(study.settings)
    except Refusal as refusal:
        return explain("study.older_plan", refusal.facts)
    return None
