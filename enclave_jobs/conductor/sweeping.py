"""The sweep takes up, every few seconds, what was left lying; upkeep forgets, now and then, what is of no
more use.

It makes the database the truth, and messages a hint.
"""

from __future__ import annotations

from contextlib import suppress

from contracts.refusal import Refusal
from enclave_jobs import dispatch
from enclave_jobs.base_models import model_jobs
from enclave_jobs.blobs import uploads
from enclave_jobs.conductor import contributions, releasing
from enclave_jobs.enclaves.models import Enclave, EnclaveState
from enclave_jobs.jobs import leases
from enclave_jobs.releases import queries as releases
from enclave_jobs.runs.models import Run, RunState
from enclave_jobs.serving import queries as serving
from enclave_jobs.supervisor import pool
from federation.upkeep import forget_expired

OVER = (RunState.FINISHED, RunState.FAILED, RunState.CANCELLED)
MOVING = (RunState.STARTING, RunState.JOINING, RunState.RUNNING, RunState.FINISHING)


def sweep() -> None:
    """1. Leases that have run out: their jobs wait again.
    2. Every run that can move is moved on; most of these steps find nothing to do.
    3. Runs that are over, with an enclave that lives: it is stopped.
    4. Models that are served, and those that are not any more: their enclaves are looked after, or stopped.
    5. Releases that are approved, and enclaves that have released: likewise.
    6. Work on base models that waits, or whose worker is gone.
    """
    for job in leases.expire_overdue():
        contributions.put_back(job)
    for run_id in Run.objects.filter(state__in=MOVING).values_list("pk", flat=True):
        dispatch.send(dispatch.ADVANCE, run_id)
    living = Enclave.objects.filter(
        state__in=(EnclaveState.STARTING, EnclaveState.READY), run__state__in=OVER
    )
    for run_id in set(living.filter(serves=False, releases=False).values_list("run_id", flat=True)):
        dispatch.send(dispatch.END, run_id)
    unwanted = living.filter(serves=True).exclude(run__service__state__in=serving.ACTIVE)
    for run_id in {*serving.to_look_after(), *unwanted.values_list("run_id", flat=True)}:
        dispatch.send(dispatch.SERVE, run_id)
    releasing_now = living.filter(releases=True).values_list("run_id", flat=True)
    for run_id in {*releases.to_do(), *releasing_now}:
        dispatch.send(dispatch.RELEASE, run_id)
    for job_id in model_jobs.to_send():
        dispatch.send(dispatch.PROVE, job_id)


def upkeep() -> None:
    """Enclaves that their runs have left, uploads that nobody goes on with, released files that were kept for
    long enough, and the control plane's expired nonces and token ids."""
    for address in pool.known():
        with suppress(Refusal):  # one that is away is looked at when it is back
            pool.stop_left_behind(address)
    uploads.remove_abandoned()
    releasing.remove_outdated()
    forget_expired()
