"""Agents' API: the receipts of a run, and evidence of the enclaves that signed them. A site believes a
receipt only after it has judged its signer itself."""

from __future__ import annotations

import msgspec
from django.http import HttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request

from contracts.agents_api.runs import PAGE, RECEIPTS, SIGNER, ReceiptsAnswer, SignerAnswer
from enclave_jobs.conductor import attesting
from enclave_jobs.runs.members import run_of, site_of
from enclave_jobs.runs.models import Round, RoundState
from federation.sites.agent_view import AgentView
from federation.wire import answer, document

MAX_ROUND = 2**31


class Receipts(AgentView):
    """The receipts of a run after a round."""

    @extend_schema(
        operation_id="receipts",
        parameters=[OpenApiParameter("after", int, description="The last round that the site has.")],
        **document(RECEIPTS),
    )
    def get(self, request: Request, run: str) -> HttpResponse:
        found = run_of(site_of(request), run, active=False)
        after = request.query_params.get("after", "0")
        last = int(after) if after.isascii() and after.isdigit() and len(after) < 11 else MAX_ROUND
        rounds = Round.objects.filter(run=found, state=RoundState.PUBLISHED, number__gt=min(last, MAX_ROUND))
        kept = rounds.order_by("number").values_list("receipt", flat=True)[:PAGE]
        return answer(RECEIPTS, ReceiptsAnswer([msgspec.Raw(msgspec.json.encode(one)) for one in kept]))


class SignerEvidence(AgentView):
    """Evidence of a server enclave of a run, also of one that is gone."""

    @extend_schema(operation_id="signer", **document(SIGNER))
    def get(self, request: Request, run: str, key: str) -> HttpResponse:
        evidence = attesting.kept_evidence(run_of(site_of(request), run, active=False), key)
        said = SignerAnswer(evidence.quote, evidence.collateral, evidence.claims, evidence.event_log)
        return answer(SIGNER, said)
