"""Agents' API: the way to a run's server enclave: its evidence, and showing it one's own."""

from __future__ import annotations

from typing import Annotated

import msgspec
from django.db import transaction
from django.db.models import Q
from drf_spectacular.utils import extend_schema
from msgspec import Meta, Struct
from rest_framework.request import Request
from rest_framework.response import Response

from contracts.aggregator_calls import ADMIT, CHALLENGE, AdmitClientArguments, ChallengeArguments
from contracts.commitment import Committed, Held
from contracts.evidence import Claims, EventLog, Evidence
from contracts.policy import Hex32
from contracts.program_calls import Challenge
from contracts.refusal import Refusal
from enclave_jobs.conductor import attesting, dispatch
from enclave_jobs.enclaves.models import Admission, Enclave, EnclaveState
from enclave_jobs.runs.members import run_of, site_of
from enclave_jobs.runs.models import Run
from enclave_jobs.supervisor import client
from federation.attestation import gate
from federation.studies.frozen import manifest_of
from federation.wire import AgentView, document, read


class NonceBody(Struct, forbid_unknown_fields=True):
    """The relying party's own fresh nonce (32 bytes in hex). `epoch` says which of the run's enclaves is
    meant where several live: one may serve while another releases."""

    nonce: Hex32
    epoch: Annotated[int, Meta(ge=1, lt=2**31)] | None = None


class EvidenceAnswer(Struct):
    """Evidence of the server enclave; `quote` is base64. `enclave` and `epoch` name the one that gave it."""

    quote: str
    collateral: dict[str, str]
    claims: Claims
    event_log: EventLog | None
    enclave: str
    epoch: int


class AdmitBody(Struct, forbid_unknown_fields=True):
    """Evidence of the site's client slice, the site key's endorsement of its claims (hex), and, in a run with
    a public front, the features that the slice has committed to."""

    evidence: Evidence
    endorsement: Annotated[str, Meta(pattern=r"^[0-9a-f]{128}\Z")]
    features: Committed | None = None


class VerdictAnswer(Struct):
    """The server enclave's own verdict. A refusal is an error body with the code of the failed check. `held`
    is what it answers to features that were committed to."""

    verdict: str
    code: str | None
    held: Held | None


class AggregatorEvidence(AgentView):
    """Fresh evidence of the run's server enclave for the caller's nonce."""

    @extend_schema(operation_id="aggregator_evidence", **document(NonceBody, EvidenceAnswer))
    def post(self, request: Request, run: str) -> Response:
        asked = read(request, NonceBody)
        found, enclave = _enclave_of(request, run, asked.epoch)
        gate.require_in_force(manifest_of(found).policy)
        evidence = attesting.evidence_of(enclave.pk, asked.nonce, manifest_of(found).runtime)
        return Response(
            {
                **msgspec.to_builtins(evidence),
                "enclave": enclave.pk,
                "epoch": enclave.epoch,
            }
        )


class AggregatorChallenge(AgentView):
    """A nonce that the server enclave has drawn for this site's client slice."""

    @extend_schema(operation_id="aggregator_challenge", **document(None, Challenge))
    def post(self, request: Request, run: str) -> Response:
        _, enclave = _enclave_of(request, run)
        drawn = client.call(enclave.pk, CHALLENGE, ChallengeArguments(site_of(request).pk))
        return Response(msgspec.to_builtins(drawn))


class AggregatorAdmit(AgentView):
    """Show the client slice's evidence. It is appraised, stored and logged here, then judged inside the
    enclave."""

    @extend_schema(operation_id="aggregator_admit", **document(AdmitBody, VerdictAnswer))
    def post(self, request: Request, run: str) -> Response:
        shown = read(request, AdmitBody)
        found, enclave = _enclave_of(request, run)
        site = site_of(request)
        attesting.clear_client(found, site, enclave, manifest_of(found), shown.evidence)
        asked = AdmitClientArguments(site.pk, shown.evidence, shown.endorsement, shown.features)
        admitted = client.call(enclave.pk, ADMIT, asked)  # what is not accepted is refused
        with transaction.atomic():
            Admission.objects.update_or_create(
                enclave=enclave, site=site, defaults={"signing_key": shown.evidence.claims.signing_key}
            )
            dispatch.after_commit(dispatch.ADVANCE, found.pk)
        return Response(msgspec.to_builtins(VerdictAnswer("accepted", None, admitted.held)))


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
