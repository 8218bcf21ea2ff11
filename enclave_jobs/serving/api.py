"""Agents' API: the relay between a site and the served model's enclave. It passes sealed bytes on, counts
them, and can do nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec
from drf_spectacular.utils import extend_schema
from msgspec import Struct
from rest_framework.request import Request
from rest_framework.response import Response

from contracts.program_calls import A, Call, R
from contracts.refusal import Refusal
from contracts.serving_calls import (
    CLOSE,
    OPEN,
    STEP,
    CloseArguments,
    OpenArguments,
    SessionOpened,
    StepArguments,
    Stepped,
)
from enclave_jobs.conductor import attesting, serving
from enclave_jobs.conductor.restarting import is_loss
from enclave_jobs.enclaves.api import EvidenceAnswer, NonceBody
from enclave_jobs.enclaves.models import Enclave
from enclave_jobs.runs.members import run_of, site_of
from enclave_jobs.serving import queries, services
from enclave_jobs.serving.models import Use
from enclave_jobs.supervisor import client
from federation.attestation import gate
from federation.studies.frozen import manifest_of
from federation.wire import AgentView, document, read

T = TypeVar("T")


class ServedAnswer(Struct):
    """A run whose model this site may ask; `state` is `starting` or `serving`."""

    run: str
    manifest_hash: str
    study: str
    state: str


class ServedRuns(AgentView):
    """The runs whose models this site may ask."""

    @extend_schema(operation_id="served", **document(None, list[ServedAnswer]))
    def get(self, request: Request) -> Response:
        found = [
            ServedAnswer(row.run_id, row.run.manifest_hash, row.run.study.name, row.state)
            for row in queries.served_to(site_of(request))
        ]
        return Response(msgspec.to_builtins(found))


class ServingEvidence(AgentView):
    """Fresh evidence of the served model's enclave for the caller's nonce."""

    @extend_schema(operation_id="serving_evidence", **document(NonceBody, EvidenceAnswer))
    def post(self, request: Request, run: str) -> Response:
        asked, use = read(request, NonceBody), _use(request, run)
        manifest = manifest_of(use.service.run)
        gate.require_in_force(manifest.policy)
        evidence = _relay(
            use, lambda: attesting.evidence_of(use.service.enclave, asked.nonce, manifest.runtime)
        )
        return Response(
            {
                **msgspec.to_builtins(evidence),
                "enclave": use.service.enclave,
                "epoch": Enclave.objects.get(pk=use.service.enclave).epoch,
            }
        )


class ServingOpen(AgentView):
    """Open a session."""

    @extend_schema(operation_id="serving_open", **document(OpenArguments, SessionOpened))
    def post(self, request: Request, run: str) -> Response:
        body, use = read(request, OpenArguments), _use(request, run)
        if body.opening.site != use.site_id:
            raise Refusal("serving.bad_opening")
        answer = _call(use, OPEN, body)
        services.count(use, sessions=1, bytes=len(request.body))
        return Response(msgspec.to_builtins(answer))


class ServingStep(AgentView):
    """Pass one sealed message on, and its sealed answer back."""

    @extend_schema(operation_id="serving_step", **document(StepArguments, Stepped))
    def post(self, request: Request, run: str) -> Response:
        body, use = read(request, StepArguments), _use(request, run)
        answer = _call(use, STEP, body)
        sizes = len(request.body) + len(answer.sealed or "")
        services.count(use, bytes=sizes, texts=answer.texts, tokens=answer.tokens)
        return Response(msgspec.to_builtins(answer))


class ServingClose(AgentView):
    """End a session."""

    @extend_schema(operation_id="serving_close", **document(CloseArguments, None))
    def post(self, request: Request, run: str) -> Response:
        body, use = read(request, CloseArguments), _use(request, run)
        return Response(msgspec.to_builtins(_call(use, CLOSE, body)))


def _use(request: Request, run_id: str) -> Use:
    """That this site may ask this run's model now.

    Raises: `run.unknown`, or as `require_use`.
    """
    site = site_of(request)
    return services.require_use(run_of(site, run_id, active=False), site)


def _call(use: Use, call: Call[A, R], arguments: A) -> R:
    return _relay(use, lambda: client.call(use.service.enclave, call, arguments))


def _relay(use: Use, ask: Callable[[], T]) -> T:
    """Ask the enclave. One that has died is replaced, and the site told to wait (`serving.starting`)."""
    try:
        return ask()
    except Refusal as refusal:
        if not is_loss(refusal):
            raise
        serving.lost(use.service.run_id, refusal.code)
        raise Refusal("serving.starting") from refusal
