"""Agents' API: the relay between a site and the served model's enclave. It passes sealed bytes on, counts
them, and can do nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from contracts import serving_calls as calls
from contracts.agents_api.enclaves import SERVING_EVIDENCE, EvidenceAnswer
from contracts.agents_api.serving import CLOSE, OPEN, SERVED, STEP, ServedAnswer
from contracts.program_calls import A, Call, R
from contracts.refusal import Refusal
from enclave_jobs.conductor import attesting, serving
from enclave_jobs.conductor.restarting import is_loss
from enclave_jobs.enclaves.models import Enclave
from enclave_jobs.runs.members import run_of, site_of
from enclave_jobs.serving import queries, services
from enclave_jobs.serving.models import Use
from enclave_jobs.supervisor import client
from federation.attestation import gate
from federation.frozen import manifest_of
from federation.sites.agent_view import AgentView
from federation.wire import answer, document, read

T = TypeVar("T")


class ServedRuns(AgentView):
    """The runs whose models this site may ask."""

    @extend_schema(operation_id="served", **document(SERVED))
    def get(self, request: Request) -> HttpResponse:
        found = [
            ServedAnswer(row.run_id, row.run.manifest_hash, row.run.study.name, row.state)
            for row in queries.served_to(site_of(request))
        ]
        return answer(SERVED, found)


class ServingEvidence(AgentView):
    """Fresh evidence of the served model's enclave for the caller's nonce."""

    @extend_schema(operation_id="serving_evidence", **document(SERVING_EVIDENCE))
    def post(self, request: Request, run: str) -> HttpResponse:
        asked, use = read(request, SERVING_EVIDENCE), _use(request, run)
        manifest = manifest_of(use.service.run)
        gate.require_in_force(manifest.policy)
        evidence = _relay(
            use, lambda: attesting.evidence_of(use.service.enclave, asked.nonce, manifest.runtime)
        )
        epoch = Enclave.objects.get(pk=use.service.enclave).epoch
        return answer(SERVING_EVIDENCE, EvidenceAnswer.of(evidence, use.service.enclave, epoch))


class ServingOpen(AgentView):
    """Open a session."""

    @extend_schema(operation_id="serving_open", **document(OPEN))
    def post(self, request: Request, run: str) -> HttpResponse:
        body, use = read(request, OPEN), _use(request, run)
        if body.opening.site != use.site_id:
            raise Refusal("serving.bad_opening")
        opened = _call(use, calls.OPEN, body)
        services.count(use, sessions=1, bytes=len(request.body))
        return answer(OPEN, opened)


class ServingStep(AgentView):
    """Pass one sealed message on, and its sealed answer back."""

    @extend_schema(operation_id="serving_step", **document(STEP))
    def post(self, request: Request, run: str) -> HttpResponse:
        body, use = read(request, STEP), _use(request, run)
        stepped = _call(use, calls.STEP, body)
        sizes = len(request.body) + len(stepped.sealed or "")
        services.count(use, bytes=sizes, texts=stepped.texts, tokens=stepped.tokens)
        return answer(STEP, stepped)


class ServingClose(AgentView):
    """End a session."""

    @extend_schema(operation_id="serving_close", **document(CLOSE))
    def post(self, request: Request, run: str) -> HttpResponse:
        body, use = read(request, CLOSE), _use(request, run)
        return answer(CLOSE, _call(use, calls.CLOSE, body))


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
