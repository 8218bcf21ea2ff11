"""The record of a run's server enclaves, whatever they are for: training, serving or a release."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.db.models import Max, QuerySet
from django.utils import timezone

from attestation.appraisal import Appraisal
from contracts.evidence import Evidence
from contracts.refusal import Refusal
from enclave_jobs.enclaves.models import Enclave, EnclaveState
from enclave_jobs.enclaves.transitions import ENCLAVE
from enclave_jobs.jobs import leases
from enclave_jobs.runs.models import Run
from enclave_jobs.supervisor import client, pool
from federation.transitions import move


def home_of(run: Run, runtime: str, opens_anywhere: Callable[[], bool] = lambda: False) -> str:
    """Where a run's next enclave belongs: with its others, whose state opens there. The first goes to the
    supervisor of the pool that has most room, or without a pool to the caller's own machine; so does one that
    comes after a lost one, where the state of that `opens_anywhere`. Where the operator has taken the
    machine out of the pool, it is another supervisor of that machine, else any: the enclave finds out whether
    the state opens there.

    Raises: as `pool.place` and `opens_anywhere`.
    """
    last = Enclave.objects.filter(run=run).order_by("-epoch").first()
    if last is not None and pool.is_gone(last.supervisor):
        return pool.beside(last.supervisor) or pool.place(runtime)
    moves = settings.SUPERVISORS and last is not None and last.state == EnclaveState.LOST and opens_anywhere()
    if last is not None and not moves:
        return last.supervisor
    return pool.place(runtime) if settings.SUPERVISORS else settings.SUPERVISOR_ADDRESS or ""


def name_next(run: Run, program: str, home: str, **purpose: bool) -> Enclave:
    """Enter the run's next enclave, on the machine that is its `home`. The caller holds a lock that keeps
    others from doing the same; `home_of` may ask over the network, so before that."""
    epoch = (Enclave.objects.filter(run=run).aggregate(last=Max("epoch"))["last"] or 0) + 1
    return Enclave.objects.create(
        id=f"{run.pk.lower()}-{epoch}",
        run=run,
        epoch=epoch,
        program=program,
        supervisor=home,
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

    Raises: as `stop_there`.
    """
    for enclave in living(run_id, **purpose):
        stop_there(enclave)
        _over(enclave, EnclaveState.STOPPED)


def stop_there(enclave: Enclave) -> None:
    """Have its supervisor stop it. One that was taken out of the pool, and does not answer, has none any
    more.

    Raises: as `client.stop`.
    """
    try:
        client.stop(enclave.pk)
    except Refusal as refusal:
        if refusal.code != "supervisor.unreachable" or not pool.is_gone(enclave.supervisor):
            raise


def give_up(run_id: str, **purpose: bool) -> None:
    """Enter as lost those for this purpose: another will take their place."""
    for enclave in living(run_id, **purpose):
        _over(enclave, EnclaveState.LOST)


def _over(enclave: Enclave, state: EnclaveState) -> None:
    leases.withdraw(enclave=enclave.pk)
    move(enclave, ENCLAVE, enclave.state, state)
