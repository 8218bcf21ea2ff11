"""Agents fetch collateral for their own quotes, and follow the transparency log."""

from __future__ import annotations

import re
import time

import msgspec
from django.conf import settings
from django.http import HttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request

from contracts.agents_api.endpoint import NOT_GIVEN
from contracts.agents_api.log import (
    CHECKPOINT,
    COLLATERAL,
    CONSISTENCY,
    INCLUSION,
    PROOF,
    RELEASE_STATEMENT,
    CheckpointAnswer,
    CollateralAnswer,
    ConsistencyAnswer,
    InclusionAnswer,
    ReleaseStatementAnswer,
)
from contracts.refusal import Refusal
from federation.attestation import collateral, log, proofs, statements
from federation.attestation.models import Root
from federation.sites.agent_view import AgentView, agent
from federation.sites.services import DEVELOPMENT_RUNTIMES
from federation.wire import answer, document


class Collateral(AgentView):
    """What the site needs beside its quote. For development platforms we play Intel's service; for hardware
    the cache answers, by the FMSPC and PCK CA of the site's platform."""

    @extend_schema(
        parameters=[
            OpenApiParameter("fmspc", str, description="hex, from the quote's PCK certificate"),
            OpenApiParameter("ca", str, description="which PCK CA: processor or platform"),
        ],
        **document(COLLATERAL),
    )
    def get(self, request: Request) -> HttpResponse:
        runtime, now = agent(request).site.runtime, int(time.time())
        if runtime in DEVELOPMENT_RUNTIMES:
            if runtime not in settings.ENCLAVE_RUNTIMES:
                raise Refusal("collateral.none")
            both = (collateral.development(tee, now) for tee in ("sgx", "tdx"))
            return answer(COLLATERAL, CollateralAnswer(*both))
        tee = "tdx" if runtime == "tdx" else "sgx"
        fmspc = request.query_params.get("fmspc", "").lower()
        ca = request.query_params.get("ca", "")
        if not fmspc and not ca:
            return _one_set(tee, collateral.only_one(Root.INTEL, tee, now))
        if not re.fullmatch("[0-9a-f]{12}", fmspc) or ca not in ("processor", "platform"):
            raise Refusal("request.invalid", fault="fmspc or ca")
        return _one_set(tee, collateral.for_platform(Root.INTEL, tee, fmspc, ca, now))


def _one_set(tee: str, fields: dict[str, str]) -> HttpResponse:
    return answer(COLLATERAL, CollateralAnswer(**{tee: fields}))


class LogCheckpoint(AgentView):
    """The signed tree head of the log as it is now."""

    @extend_schema(**document(CHECKPOINT))
    def get(self, request: Request) -> HttpResponse:
        row = log.checkpoint()
        return answer(CHECKPOINT, CheckpointAnswer(row.note, log.verifier_key(), row.size))


class LogConsistency(AgentView):
    """The proof that the log of size `to` grew from the log of size `from`."""

    @extend_schema(
        parameters=[OpenApiParameter("from", int, required=True), OpenApiParameter("to", int, required=True)],
        **document(CONSISTENCY),
    )
    def get(self, request: Request) -> HttpResponse:
        first, second = _number(request, "from"), _number(request, "to")
        proof = log.consistency(first, second)
        return answer(CONSISTENCY, ConsistencyAnswer(first, second, [item.hex() for item in proof]))


class ReleaseStatementView(AgentView):
    """The newest release statement that the operator has published. The agent checks whose it is."""

    @extend_schema(operation_id="release_statement", **document(RELEASE_STATEMENT))
    def get(self, request: Request) -> HttpResponse:
        found = statements.newest()
        said = NOT_GIVEN if found is None else msgspec.Raw(msgspec.json.encode(found.body))
        return answer(RELEASE_STATEMENT, ReleaseStatementAnswer(said))


class LogInclusion(AgentView):
    """The proof that an entry is in the log. It tells nothing of the entry's body."""

    @extend_schema(
        parameters=[
            OpenApiParameter("entry", str, required=True, description="index, or leaf hash in hex"),
            OpenApiParameter("size", int, description="tree size; the whole log if left out"),
        ],
        **document(INCLUSION),
    )
    def get(self, request: Request) -> HttpResponse:
        entry = request.query_params.get("entry", "")
        if not re.fullmatch(r"[0-9a-f]{64}|[0-9]{1,15}", entry):
            raise Refusal("request.invalid", fault="entry is neither an index nor a leaf hash")
        size = _number(request, "size") if "size" in request.query_params else None
        row, within, proof = log.inclusion(entry, size)
        way = [item.hex() for item in proof]
        return answer(INCLUSION, InclusionAnswer(row.index, within, row.leaf_hash, way))


class LogProof(AgentView):
    """The newest entry of a kind about a run of the caller's, with its proof under a checkpoint that all
    witnesses of the run's manifest have cosigned."""

    @extend_schema(
        parameters=[
            OpenApiParameter("kind", str, required=True, enum=list(proofs.KINDS)),
            OpenApiParameter("manifest", str, required=True, description="its SHA-256"),
            OpenApiParameter("key", str, description="of an appraisal: the signing key that it attests"),
            OpenApiParameter("round", int, description="of a roster"),
        ],
        **document(PROOF),
    )
    def get(self, request: Request) -> HttpResponse:
        given = request.query_params
        round = _number(request, "round") if "round" in given else None
        about = agent(request).site, given.get("kind", ""), given.get("manifest", "")
        return answer(PROOF, proofs.prove(*about, key=given.get("key"), round=round))


def _number(request: Request, name: str) -> int:
    text = request.query_params.get(name, "")
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise Refusal("request.invalid", fault=f"{name} is not a number")
    return int(text)
