"""Who may see which runs. Who may steer one is its study's affair (federation/studies/permissions.py)."""

from __future__ import annotations

from django.db.models import QuerySet

from enclave_jobs.runs.models import Run
from federation.people.models import User
from federation.studies.permissions import with_runs_visible_to


def runs_visible_to(user: User) -> QuerySet[Run]:
    """The runs of the studies that this person may see; a site admin also sees those of reopened studies."""
    return Run.objects.filter(study__in=with_runs_visible_to(user))
