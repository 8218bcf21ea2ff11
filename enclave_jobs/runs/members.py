"""Who asks, and whether their site belongs to a run: the gate of every endpoint."""

from __future__ import annotations

from rest_framework.request import Request

from contracts.refusal import Refusal
from enclave_jobs.jobs.leases import LIVE_RUNS
from enclave_jobs.runs.models import Run
from federation.frozen import frozen
from federation.sites.authentication import AgentPrincipal
from federation.sites.models import Site


def site_of(request: Request) -> Site:
    """The site whose agent asks.

    Raises: `auth.missing` for anybody else.
    """
    principal: object = request.user
    if not isinstance(principal, AgentPrincipal):
        raise Refusal("auth.missing")
    return principal.site


def run_of(site: Site, run_id: str, *, active: bool) -> Run:
    """A run that this site is a member of.

    Raises: `run.unknown`, also where the run is others' business; `run.not_active` where it must still be
    going on.
    """
    run = Run.objects.filter(pk=run_id).select_related("study").first()
    if run is None or site.pk not in frozen(run).names:
        raise Refusal("run.unknown")
    if active and run.state not in LIVE_RUNS:
        raise Refusal("run.not_active", state=run.state)
    return run


def starts_for(site: Site, sha256: str) -> bool:
    """Whether a run that this site is a member of starts from the released adapter of this hash."""
    runs = Run.objects.filter(manifest__contains=f'"start":"{sha256}"')  # a text may say so, too
    return any(frozen(run).at("model", "start") == sha256 and site.pk in frozen(run).names for run in runs)
