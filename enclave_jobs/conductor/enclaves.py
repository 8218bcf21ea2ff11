"""The record of a run's server enclaves, whatever they are for: training, serving or a release."""

from __future__ import annotations

from django.db.models import Max, QuerySet
from django.utils import timezone

from attestation.appraisal import Appraisal
from contracts.evidence import Evidence
from enclave_jobs import leases
from enclave_jobs.models import Enclave, EnclaveState
from enclave_jobs.runs.models import Run
from enclave_jobs.supervisor import client
from enclave_jobs.transitions import ENCLAVE
from federation.transitions import move


def name_next(run: Run, program: str, **purpose: bool) -> Enclave:
    """Enter the run's next enclave, on the machine that is its home. The caller holds a lock that keeps
    others from doing the same."""
    epoch = (Enclave.objects.filter(run=run).aggregate(last=Max("epoch"))["last"] or 0) + 1
    return Enclave.objects.create(
        id=f"{run.pk.lower()}-{epoch}",
        run=run,
        epoch=epoch,
        program=program,
        supervisor=client.home_of(run),
        **purpose,
    )


def make_ready(enclave: Enclave, appraisal: Appraisal, evidence: Evidence) -> bool:
    """Its evidence was accepted. False if another worker was faster."""
    return move(
        enclave,
        ENCLAVE,
        EnclaveState.STARTING,
        EnclaveState.READY,
        signing_key=evidence.claims.signing_key,
        measurement=appraisal.measurement or "",
        development=appraisal.development,
        ready_at=timezone.now(),
    )


def living(run_id: str, **purpose: bool) -> QuerySet[Enclave]:
    """The run's enclaves for this purpose (`serves`, `releases`) that are starting or ready."""
    alive = (EnclaveState.STARTING, EnclaveState.READY)
    return Enclave.objects.filter(run_id=run_id, state__in=alive, **purpose)


def stop(run_id: str, **purpose: bool) -> None:
    """Stop those for this purpose: nobody needs them any more.

    Raises: as `client.stop`.
    """
    for enclave in living(run_id, **purpose):
        client.stop(enclave.pk)
        _over(enclave, EnclaveState.STOPPED)


def give_up(run_id: str, **purpose: bool) -> None:
    """Enter as lost those for this purpose: another will take their place."""
    for enclave in living(run_id, **purpose):
        _over(enclave, EnclaveState.LOST)


def _over(enclave: Enclave, state: EnclaveState) -> None:
    leases.withdraw(enclave=enclave.pk)
    move(enclave, ENCLAVE, enclave.state, state)
