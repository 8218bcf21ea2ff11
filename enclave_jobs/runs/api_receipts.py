"""Agents' API: the receipts of a run, and evidence of the enclaves that signed them. A site believes a
receipt only after it has judged its signer itself."""

from __future__ import annotations

import base64
from typing import Annotated, Any

import msgspec
from drf_spectacular.utils import OpenApiParameter, extend_schema
from msgspec import Meta, Struct
from rest_framework.request import Request
from rest_framework.response import Response

from contracts.evidence import Claims, EventLog
from enclave_jobs.conductor import attesting
from enclave_jobs.runs.members import run_of, site_of
from enclave_jobs.runs.models import Round, RoundState
from federation.wire import AgentView, document

PAGE = 50
MAX_ROUND = 2**31


class ReceiptsAnswer(Struct):
    """Signed receipts of published rounds, in their order: the first of those that were asked for."""

    receipts: Annotated[list[dict[str, Any]], Meta(max_length=PAGE)]


class SignerAnswer(Struct):
    """Evidence that the coordinator has accepted of the enclave that signs with a key; `quote` is base64. Its
    nonce was the coordinator's, its collateral is of now."""

    quote: str
    collateral: dict[str, str]
    claims: Claims
    event_log: EventLog | None


class Receipts(AgentView):
    """The receipts of a run after a round."""

    @extend_schema(
        operation_id="receipts",
        parameters=[OpenApiParameter("after", int, description="The last round that the site has.")],
        **document(None, ReceiptsAnswer),
    )
    def get(self, request: Request, run: str) -> Response:
        found = run_of(site_of(request), run, active=False)
        after = request.query_params.get("after", "0")
        last = int(after) if after.isascii() and after.isdigit() and len(after) < 11 else MAX_ROUND
        rounds = Round.objects.filter(run=found, state=RoundState.PUBLISHED, number__gt=min(last, MAX_ROUND))
        return Response(
            {"receipts": list(rounds.order_by("number").values_list("receipt", flat=True)[:PAGE])}
        )


class SignerEvidence(AgentView):
    """Evidence of a server enclave of a run, also of one that is gone."""

    @extend_schema(operation_id="signer", **document(None, SignerAnswer))
    def get(self, request: Request, run: str, key: str) -> Response:
        evidence = attesting.kept_evidence(run_of(site_of(request), run, active=False), key)
        return Response(
            {
                "quote": base64.b64encode(evidence.quote).decode(),
                "collateral": evidence.collateral,
                "claims": msgspec.to_builtins(evidence.claims),
                "event_log": evidence.event_log,
            }
        )
