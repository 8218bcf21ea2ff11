"""Agents' API: a run's manifest with its approvals."""

from __future__ import annotations

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from contracts.agents_api.runs import MANIFEST, ManifestAnswer
from enclave_jobs.runs.members import run_of, site_of
from enclave_jobs.runs.queries import approvals_given
from federation.sites.agent_view import AgentView
from federation.wire import answer, document


class RunManifest(AgentView):
    """What the run is: for the agent to compare with what its site approved."""

    @extend_schema(operation_id="run_manifest", **document(MANIFEST))
    def get(self, request: Request, run: str) -> HttpResponse:
        found = run_of(site_of(request), run, active=False)
        return answer(MANIFEST, ManifestAnswer(found.manifest, approvals_given(found)))
