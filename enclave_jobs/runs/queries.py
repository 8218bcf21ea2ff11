"""What pages, agents and the conductor ask about runs."""

from __future__ import annotations

from collections.abc import Iterable

from django.db.models import Q, QuerySet

from contracts.approvals import Approval as Given
from contracts.counting import counted
from enclave_jobs.runs.models import Run, Tag
from federation.studies.models import Event, SweepPoint
from federation.studies.queries import given_to


def approvals_given(run: Run) -> dict[str, Given]:
    """Site id -> its signed approval of the run's manifest: what every enclave of the run checks."""
    return given_to(run.study, run.manifest_hash)


def counting(run: Run, sites: Iterable[str]) -> int:
    """How many of these sites count in this run (contracts/counting.py), as its enclaves count."""
    return counted(approvals_given(run), sites)


def timeline(run: Run, after: int = 0) -> QuerySet[Event]:
    """The run's events with an id larger than `after`, oldest first."""
    return run.events.filter(pk__gt=after).select_related("site", "round").order_by("pk")


def runs_named(runs: QuerySet[Run], text: str) -> QuerySet[Run]:
    """Those with this text in their study's or sweep's name or note, with this tag, or whose id or manifest's
    hash begins so."""
    of_sweeps = SweepPoint.objects.filter(sweep__name__icontains=text).values("study")
    tagged = Tag.objects.filter(name=text.strip("#").casefold()).values("run")
    in_name = Q(study__name__icontains=text) | Q(study__in=of_sweeps)
    in_name |= Q(note__icontains=text) | Q(pk__in=tagged)
    return runs.filter(in_name | Q(pk__startswith=text) | Q(manifest_hash__startswith=text.lower()))
