"""An enclave was lost: its keys are gone. The run starts another from the sealed state, and goes on.

What becomes of the round that was lost with it, the run's method knows (methods/).
"""

from __future__ import annotations

import logging

from django.db import transaction

from contracts.refusal import Refusal
from enclave_jobs import dispatch
from enclave_jobs.conductor import methods
from enclave_jobs.enclaves.models import Enclave, EnclaveState
from enclave_jobs.enclaves.transitions import ENCLAVE
from enclave_jobs.jobs import leases
from enclave_jobs.runs.models import Round, Run, RunState
from enclave_jobs.supervisor import client
from error_catalogue import CATALOGUE
from federation.studies.events import apply
from federation.transitions import move

logger = logging.getLogger(__name__)

LOST = ("program.died", "program.start_failed", "supervisor.no_enclave")


def is_loss(refusal: Refusal) -> bool:
    """Whether the refusal says that the enclave is gone."""
    return refusal.code in LOST


def is_passing(refusal: Refusal) -> bool:
    """Whether the same step can succeed later without anybody changing the run."""
    entry = CATALOGUE.get(refusal.code)
    return entry is not None and entry.retry


def require_alive(run: Run) -> None:
    """Raises: `supervisor.no_enclave` where the run's enclave does not live."""
    if not client.is_running(run.enclave_id):
        raise Refusal("supervisor.no_enclave")


def lost(run: Run, refusal: Refusal) -> None:
    """Give the enclave up and start the next. Its jobs are withdrawn: agents are told `run.reattest`."""
    logger.warning("run %s lost its enclave: %s", run.pk, refusal.code)
    with transaction.atomic():
        run = Run.objects.select_for_update().select_related("study").get(pk=run.pk)
        enclave = Enclave.objects.filter(run=run).order_by("-epoch").first()
        if enclave is None or enclave.state not in (EnclaveState.STARTING, EnclaveState.READY):
            return
        move(enclave, ENCLAVE, enclave.state, EnclaveState.LOST)
        leases.withdraw(run=run)
        _mend_round(run)
        if run.state in (RunState.JOINING, RunState.RUNNING):
            apply(run, run.state, RunState.STARTING, facts={"lost": enclave.pk, "code": refusal.code})
        dispatch.after_commit(dispatch.ADVANCE, run.pk)


def _mend_round(run: Run) -> None:
    round = Round.objects.filter(run=run).select_related("run__study").order_by("-number").first()
    if round is not None:
        methods.of_run(run).enclave_lost(round)
