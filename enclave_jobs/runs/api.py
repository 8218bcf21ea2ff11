"""Agents' API: a run's manifest with its approvals."""

from __future__ import annotations

import msgspec
from drf_spectacular.utils import extend_schema
from msgspec import Struct
from rest_framework.request import Request
from rest_framework.response import Response

from contracts.approvals import Approval
from enclave_jobs.runs.members import run_of, site_of
from enclave_jobs.runs.queries import approvals_given
from federation.wire import AgentView, document


class ManifestAnswer(Struct):
    """The frozen manifest's canonical text, and each site's approval of its hash."""

    manifest: str
    approvals: dict[str, Approval]


class RunManifest(AgentView):
    """What the run is: for the agent to compare with what its site approved."""

    @extend_schema(operation_id="run_manifest", **document(None, ManifestAnswer))
    def get(self, request: Request, run: str) -> Response:
        found = run_of(site_of(request), run, active=False)
        approvals = msgspec.to_builtins(approvals_given(found))
        return Response({"manifest": found.manifest, "approvals": approvals})
