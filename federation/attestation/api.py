"""Agents fetch collateral for their own quotes, and follow the transparency log."""

from __future__ import annotations

import re
import time
from typing import Annotated, Any

from django.conf import settings
from drf_spectacular.utils import OpenApiParameter, extend_schema
from msgspec import Meta, Struct, to_builtins
from rest_framework.request import Request
from rest_framework.response import Response

from contracts.refusal import Refusal
from federation.attestation import collateral, log, proofs, statements
from federation.attestation.models import Root
from federation.sites.services import DEVELOPMENT_RUNTIMES
from federation.wire import AgentView, agent, document

Hashes = list[Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]]


class CollateralAnswer(Struct):
    """QuoteCollateralV3 as JSON fields, for SGX quotes and for TDX quotes; null where the site's hardware has
    no use for it."""

    sgx: dict[str, str] | None
    tdx: dict[str, str] | None


class CheckpointAnswer(Struct):
    """`checkpoint` is the C2SP signed note, `key` the log's vkey: keep the first that you see."""

    checkpoint: str
    key: str
    size: int


class ConsistencyAnswer(Struct):
    first: int
    second: int
    proof: Hashes


class InclusionAnswer(Struct):
    """`proof` leads from the entry's leaf hash to the root over `size` entries."""

    index: int
    size: int
    leaf_hash: str
    proof: Hashes


class ProofAnswer(Struct):
    """A `Logged` (contracts/log/proof.py): the entry's text, and the proof that it is in the log."""

    entry: str
    index: int
    checkpoint: str
    proof: Hashes


class ReleaseStatementAnswer(Struct):
    """A SignedReleaseStatement (contracts/release_statement.py), or null where none was published."""

    statement: dict[str, Any] | None


class Collateral(AgentView):
    """What the site needs beside its quote. For development platforms we play Intel's service; for hardware
    the cache answers, by the FMSPC and PCK CA of the site's platform."""

    @extend_schema(
        parameters=[
            OpenApiParameter("fmspc", str, description="hex, from the quote's PCK certificate"),
            OpenApiParameter("ca", str, description="which PCK CA: processor or platform"),
        ],
        **document(None, CollateralAnswer),
    )
    def get(self, request: Request) -> Response:
        runtime, now = agent(request).site.runtime, int(time.time())
        if runtime in DEVELOPMENT_RUNTIMES:
            if runtime not in settings.ENCLAVE_RUNTIMES:
                raise Refusal("collateral.none")
            return Response({tee: collateral.development(tee, now) for tee in ("sgx", "tdx")})
        tee = "tdx" if runtime == "tdx" else "sgx"
        fmspc = request.query_params.get("fmspc", "").lower()
        ca = request.query_params.get("ca", "")
        if not fmspc and not ca:
            return _one_set(tee, collateral.only_one(Root.INTEL, tee, now))
        if not re.fullmatch("[0-9a-f]{12}", fmspc) or ca not in ("processor", "platform"):
            raise Refusal("request.invalid", fault="fmspc or ca")
        return _one_set(tee, collateral.for_platform(Root.INTEL, tee, fmspc, ca, now))


def _one_set(tee: str, fields: dict[str, str]) -> Response:
    return Response({"sgx": None, "tdx": None, tee: fields})


class LogCheckpoint(AgentView):
    """The signed tree head of the log as it is now."""

    @extend_schema(**document(None, CheckpointAnswer))
    def get(self, request: Request) -> Response:
        row = log.checkpoint()
        return Response({"checkpoint": row.note, "key": log.verifier_key(), "size": row.size})


class LogConsistency(AgentView):
    """The proof that the log of size `to` grew from the log of size `from`."""

    @extend_schema(
        parameters=[OpenApiParameter("from", int, required=True), OpenApiParameter("to", int, required=True)],
        **document(None, ConsistencyAnswer),
    )
    def get(self, request: Request) -> Response:
        first, second = _number(request, "from"), _number(request, "to")
        proof = log.consistency(first, second)
        return Response({"first": first, "second": second, "proof": [item.hex() for item in proof]})


class ReleaseStatementView(AgentView):
    """The newest release statement that the operator has published. The agent checks whose it is."""

    @extend_schema(operation_id="release_statement", **document(None, ReleaseStatementAnswer))
    def get(self, request: Request) -> Response:
        found = statements.newest()
        return Response({"statement": None if found is None else found.body})


class LogInclusion(AgentView):
    """The proof that an entry is in the log. It tells nothing of the entry's body."""

    @extend_schema(
        parameters=[
            OpenApiParameter("entry", str, required=True, description="index, or leaf hash in hex"),
            OpenApiParameter("size", int, description="tree size; the whole log if left out"),
        ],
        **document(None, InclusionAnswer),
    )
    def get(self, request: Request) -> Response:
        entry = request.query_params.get("entry", "")
        if not re.fullmatch(r"[0-9a-f]{64}|[0-9]{1,15}", entry):
            raise Refusal("request.invalid", fault="entry is neither an index nor a leaf hash")
        size = _number(request, "size") if "size" in request.query_params else None
        row, within, proof = log.inclusion(entry, size)
        answer: dict[str, Any] = {"index": row.index, "size": within, "leaf_hash": row.leaf_hash}
        return Response({**answer, "proof": [item.hex() for item in proof]})


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
        **document(None, ProofAnswer),
    )
    def get(self, request: Request) -> Response:
        given = request.query_params
        about: dict[str, Any] = {"key": given.get("key")}
        about["round"] = _number(request, "round") if "round" in given else None
        found = proofs.prove(agent(request).site, given.get("kind", ""), given.get("manifest", ""), **about)
        return Response(to_builtins(found))


def _number(request: Request, name: str) -> int:
    text = request.query_params.get(name, "")
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise Refusal("request.invalid", fault=f"{name} is not a number")
    return int(text)
