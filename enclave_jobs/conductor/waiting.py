"""How long to wait for a quorum: past a deadline without one, the wait is prolonged a few times, then given
up."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.utils import timezone

from enclave_jobs.runs.models import Round, Run
from enclave_jobs.runs.services import PROCEEDED_EARLY
from federation.studies.events import note
from federation.studies.models import Event

MAX_EXTENSIONS = 3


def joining_since(run: Run, ready: datetime) -> datetime:
    """Since when sites have been asked to join: since the enclave was ready, or since a pause ended."""
    asked = Event.objects.filter(run=run, kind="run.joining").order_by("-pk").first()
    return max(ready, asked.at) if asked is not None else ready


def proceeds_early(run: Run, since: datetime) -> bool:
    """Whether the lead has said since then that no more sites are to be waited for."""
    return Event.objects.filter(run=run, kind=PROCEEDED_EARLY, at__gte=since).exists()


def extended(run: Run, round: Round | None, deadline: datetime, wait: timedelta) -> bool:
    """Whether to wait on. Each prolongation by `wait` is a line on the timeline; there are MAX_EXTENSIONS."""
    times = Event.objects.filter(run=run, round=round, kind="quorum.awaited", at__gte=deadline).count()
    if timezone.now() < deadline + times * wait:
        return True
    if times >= MAX_EXTENSIONS:
        return False
    note(round or run, "quorum.awaited", time=times + 1, of=MAX_EXTENSIONS)
    return True
