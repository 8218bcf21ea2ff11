"""Agents' API: the way to a run's server enclave: its evidence, and showing it one's own."""

from __future__ import annotations

from django.db import transaction
from django.db.models import Q
from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from contracts import aggregator_calls as calls
from contracts.agents_api.enclaves import ADMIT, CHALLENGE, EVIDENCE, EvidenceAnswer, VerdictAnswer
from contracts.refusal import Refusal
from enclave_jobs import dispatch
from enclave_jobs.conductor import attesting
from enclave_jobs.enclaves.models import Admission, Enclave, EnclaveState
from enclave_jobs.runs.members import run_of, site_of
from enclave_jobs.runs.models import Run
from enclave_jobs.supervisor import client
from federation.attestation import gate
from federation.frozen import manifest_of
from federation.sites.agent_view import AgentView
from federation.wire import answer, document, read


class AggregatorEvidence(AgentView):
    """Fresh evidence of the run's server enclave for the caller's nonce."""

    @extend_schema(operation_id="aggregator_evidence", **document(EVIDENCE))
    def post(self, request: Request, run: str) -> HttpResponse:
        asked = read(request, EVIDENCE)
        found, enclave = _enclave_of(request, run, asked.epoch)
        gate.require_in_force(manifest_of(found).policy)
        evidence = attesting.evidence_of(enclave.pk, asked.nonce, manifest_of(found).runtime)
        return answer(EVIDENCE, EvidenceAnswer.of(evidence, enclave.pk, enclave.epoch))


class AggregatorChallenge(AgentView):
    """A nonce that the server enclave has drawn for this site's client slice."""

    @extend_schema(operation_id="aggregator_challenge", **document(CHALLENGE))
    def post(self, request: Request, run: str) -> HttpResponse:
        read(request, CHALLENGE)
        _, enclave = _enclave_of(request, run)
        asked = calls.ChallengeArguments(site_of(request).pk)
        return answer(CHALLENGE, client.call(enclave.pk, calls.CHALLENGE, asked))


class AggregatorAdmit(AgentView):
    """Show the client slice's evidence. It is appraised, stored and logged here, then judged inside the
    enclave."""

    @extend_schema(operation_id="aggregator_admit", **document(ADMIT))
    def post(self, request: Request, run: str) -> HttpResponse:
        shown = read(request, ADMIT)
        found, enclave = _enclave_of(request, run)
        site = site_of(request)
        attesting.clear_client(found, site, enclave, manifest_of(found), shown.evidence)
        asked = calls.AdmitClientArguments(site.pk, shown.evidence, shown.endorsement, shown.features)
        admitted = client.call(enclave.pk, calls.ADMIT, asked)  # what is not accepted is refused
        with transaction.atomic():
            Admission.objects.update_or_create(
                enclave=enclave, site=site, defaults={"signing_key": shown.evidence.claims.signing_key}
            )
            dispatch.after_commit(dispatch.ADVANCE, found.pk)
        return answer(ADMIT, VerdictAnswer("accepted", None, admitted.held))


def _enclave_of(request: Request, run_id: str, epoch: int | None = None) -> tuple[Run, Enclave]:
    """The run, and its enclave as it is now: the one that serves its model where the run is over, or the
    one of that `epoch` that serves it or releases its parameters.

    Raises: `supervisor.no_enclave` while one is being started, or `run.not_active`.
    """
    run = run_of(site_of(request), run_id, active=False)
    ready = Enclave.objects.filter(run=run, state=EnclaveState.READY)
    if epoch is None:
        enclave = ready.filter(serves=True).order_by("-epoch").first()
    else:
        enclave = ready.filter(Q(serves=True) | Q(releases=True), epoch=epoch).first()
    if enclave is None:
        run_of(site_of(request), run_id, active=True)
        enclave = Enclave.objects.filter(pk=run.enclave_id, state=EnclaveState.READY).first()
    if enclave is None:
        raise Refusal("supervisor.no_enclave")
    return run, enclave
