"""Start a run's server enclave: bound to the approved manifest, attested, and in the log before anything
else."""

from __future__ import annotations

import logging
from functools import partial

from django.db import transaction

from contracts.course import server_of
from contracts.manifest import Manifest
from contracts.program_calls import BIND, BindArguments
from contracts.refusal import Fact, Refusal
from enclave_jobs import dispatch
from enclave_jobs.conductor import attesting, joining, methods, restoring
from enclave_jobs.enclaves import services as enclaves
from enclave_jobs.enclaves.models import Enclave, EnclaveState
from enclave_jobs.runs.models import Run, RunState
from enclave_jobs.runs.queries import approvals_given
from enclave_jobs.supervisor import client
from federation.frozen import manifest_of
from federation.studies.events import apply

logger = logging.getLogger(__name__)

MAX_EPOCHS = 8


def advance(run: Run) -> None:
    """1. Name an enclave (the next epoch of the run) and have the supervisor start it.
    2. Bind it to the manifest with all approvals; let it load what its method needs; restore the
       last published state, if there is one and the TEE has a key of its own for it.
    3. Appraise its evidence for a nonce of our own; store the verdict and put it into the log.
    4. Only when that has committed is the enclave `ready` and are the sites asked to join.

    Raises: `run.wrong_id`, `manifest.older_format`, `run.enclave_unstable`, and what supervisor, enclave or
    verifier raises.
    """
    manifest = manifest_of(run)
    if manifest.run != run.pk:
        raise Refusal("run.wrong_id", found=manifest.run, expected=run.pk)
    program = server_of(manifest)
    home = enclaves.home_of(run, manifest.runtime, partial(restoring.opens_anywhere, run))
    enclave = _enclave(run, program, home)
    if enclave is None or not client.start(enclave.pk, program, manifest.runtime):
        return
    if not prepare(run, enclave, manifest):
        return
    appraisal, evidence = attesting.attest(run, enclave, manifest)
    with transaction.atomic():
        ready = enclaves.make_ready(enclave, appraisal, evidence)
        facts: dict[str, Fact] = {
            "enclave": enclave.pk,
            "epoch": enclave.epoch,
            "measurement": enclave.measurement[:16],
        }
        if ready and apply(run, RunState.STARTING, RunState.JOINING, facts=facts, enclave_id=enclave.pk):
            joining.offer_all(run, enclave, manifest)
            dispatch.after_commit(dispatch.ADVANCE, run.pk)


def _enclave(run: Run, program: str, home: str) -> Enclave | None:
    """The enclave that is being started; the same for everybody who asks. None for who asks too late: another
    worker has made it ready."""
    with transaction.atomic():
        if Run.objects.select_for_update().get(pk=run.pk).state != RunState.STARTING:
            return None
        last = Enclave.objects.filter(run=run).order_by("-epoch").first()
        if last is not None and last.state == EnclaveState.STARTING:
            return last
        if last is not None and last.epoch >= MAX_EPOCHS:
            raise Refusal("run.enclave_unstable", times=last.epoch)
        return enclaves.name_next(run, program, home)


def prepare(run: Run, enclave: Enclave, manifest: Manifest) -> bool:
    """Bind and restore; false while a tail is still being loaded. A killed worker may have done either
    before: the enclave says so, and its evidence will show whether it is bound to the right manifest."""
    try:
        client.call(enclave.pk, BIND, BindArguments(run.manifest, approvals_given(run)))
    except Refusal as refusal:
        if refusal.code != "program.already_bound":
            raise
    if not methods.of(manifest).prepare(run, enclave, manifest):
        return False
    restoring.restore(run, enclave)
    return True
