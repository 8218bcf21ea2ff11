"""Where a run's time went, by its events."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from enclave_jobs.runs.models import Run

LABELS = {
    "starting": _("the enclave starts and is attested"),
    "joining": _("hospitals join"),
    "collecting": _("hospitals work"),
    "countersigning": _("hospitals countersign"),
    "aggregating": _("the server enclave works"),
    "paused": _("paused"),
    "between": _("between rounds"),
}
PHASE_OF = {
    "run.starting": "starting", "run.joining": "joining", "run.running": "between", "run.paused": "paused",
    "run.finishing": "between", "run.finished": "", "run.failed": "", "run.cancelled": "",
    "round.open": "between", "round.collecting": "collecting", "round.countersigning": "countersigning",
    "round.aggregating": "aggregating", "round.published": "between", "round.failed": "between",
}  # fmt: skip
"""Event -> the phase that begins with it; "" ends the last one."""


def phases(run: Run) -> dict[str, Any]:
    """`total` seconds, and `parts` in the order of LABELS: seconds, and place in a bar of 100."""
    events = run.events.filter(Q(kind__startswith="run.") | Q(kind__startswith="round.")).order_by("pk")
    spent = _spent(events.values_list("kind", "at"))
    total = sum(spent.values())
    parts, x = [], 0.0
    for colour, (name, label) in enumerate(LABELS.items()):
        if spent.get(name):
            width = 100 * spent[name] / total
            parts.append({"label": label, "seconds": spent[name], "x": x, "width": width, "colour": colour})
            x += width
    return {"total": total, "parts": parts}


def _spent(events: Iterable[tuple[str, datetime]]) -> dict[str, float]:
    spent: dict[str, float] = {}
    phase, began = "", None
    before = ""
    for kind, at in events:
        follows = PHASE_OF.get(kind)
        if follows is None:
            continue
        if phase and began is not None:
            spent[phase] = spent.get(phase, 0.0) + (at - began).total_seconds()
        if follows == "paused":
            before = phase
        elif phase == "paused" and follows == "between":
            follows = before  # a run that goes on is where it was paused
        phase, began = follows, at
    if phase and began is not None:
        spent[phase] = spent.get(phase, 0.0) + (timezone.now() - began).total_seconds()
    return spent
