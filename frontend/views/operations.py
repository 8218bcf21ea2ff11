"""The operator's page: what must be well for a quiet night."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from enclave_jobs import operations, retention
from federation.notices import inbox
from federation.people.models import Role
from frontend.views.acting import person


def _operator(request: HttpRequest) -> None:
    if person(request).role != Role.OPERATOR:
        raise PermissionDenied


@login_required
def overview(request: HttpRequest) -> HttpResponse:
    """Storage, agents and the log at once; what Redis has of the workers comes after, as it may be away."""
    _operator(request)
    context = {
        "storage": operations.storage(),
        "agents": operations.agents(),
        "oldest": operations.OLDEST_AGENT,
        "health": operations.log_health(),
    }
    return render(request, "frontend/operations/overview.html", context)


@login_required
def workers(request: HttpRequest) -> HttpResponse:
    """The part that asks Redis."""
    _operator(request)
    return render(request, "frontend/operations/workers.html", {"work": operations.worker_report()})


@login_required
def kept(request: HttpRequest) -> HttpResponse:
    """What is kept for how long, and what would go now."""
    _operator(request)
    due = {one.rule: one for one in retention.due()}
    context = {
        "due": due,
        "rounds": retention.KEPT_ROUNDS,
        "days": retention.JOB_DAYS,
        "news_days": inbox.KEPT_DAYS,
    }
    return render(request, "frontend/operations/kept.html", context)
