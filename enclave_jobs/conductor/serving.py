"""Keep what a lead wants served served: start a split server from the run's last sealed state, attest it, put
it into the log, and start another when it dies. Stop it when nobody wants it any more."""

from __future__ import annotations

import logging

from django.db import transaction

from contracts.course import server_of
from contracts.manifest import Manifest
from contracts.refusal import Refusal
from contracts.serving_calls import REVOKE, SERVE, RevokeArguments, ServeArguments
from enclave_jobs import dispatch
from enclave_jobs.conductor import attesting, moving, restoring, shares, starting
from enclave_jobs.conductor.restarting import is_loss, is_passing
from enclave_jobs.enclaves import services as enclaves
from enclave_jobs.enclaves.models import Enclave, EnclaveState
from enclave_jobs.runs.models import Run
from enclave_jobs.serving import queries, services
from enclave_jobs.serving.models import Service, ServiceState
from enclave_jobs.supervisor import client
from federation.frozen import manifest_of

logger = logging.getLogger(__name__)

MAX_LOSSES = 5


def advance(run_id: str) -> None:
    """One step for a run's service, whatever it needs; it may run twice, and most find nothing to do."""
    service = Service.objects.select_related("run__study").filter(run_id=run_id).first()
    if service is None:
        return
    try:
        match service.state:
            case ServiceState.STARTING:
                _start(service)
            case ServiceState.SERVING:
                _look_after(service)
            case _:
                enclaves.stop(run_id, serves=True)
    except Refusal as refusal:
        _judge(service, refusal)
    else:
        moving.went_well(service.run)


def lost(run_id: str, code: str) -> None:
    """Somebody met a served enclave that is gone: start another from the sealed state."""
    service = Service.objects.select_related("run").filter(run_id=run_id).first()
    if service is None or service.state != ServiceState.SERVING:
        return
    with transaction.atomic():
        enclaves.give_up(service.run_id, serves=True)
        services.lost(service, code)
        dispatch.after_commit(dispatch.SERVE, run_id)


def _start(service: Service) -> None:
    """1. Name an enclave and have the supervisor start it.
    2. Bind it, load the tail, restore the last published state where the TEE has a key of its own for it.
    3. Appraise its evidence; store the verdict and put it into the log; only then is it used.
    4. Ask the sites for their word on which receipt was last, and for their shares where they hold some.
    5. Give it the sites' approvals, which it counts itself; then it serves.
    """
    if service.losses > MAX_LOSSES:
        raise Refusal("run.enclave_unstable", times=service.losses)
    manifest = manifest_of(service.run)
    enclave = _enclave(service, manifest)
    if enclave is None or not client.start(enclave.pk, server_of(manifest), manifest.runtime):
        return
    if enclave.state == EnclaveState.STARTING and not _attested(service.run, enclave, manifest):
        return
    if not shares.restored(service.run, enclave, manifest):
        return
    client.call(enclave.pk, SERVE, ServeArguments(service.receipt, queries.release_approvals(service)))
    client.call(enclave.pk, REVOKE, RevokeArguments(tuple(queries.revoked_sites(service))))
    services.ready(service, enclave.pk)


def _attested(run: Run, enclave: Enclave, manifest: Manifest) -> bool:
    if not starting.prepare(run, enclave, manifest):
        return False
    appraisal, evidence = attesting.attest(run, enclave, manifest)
    return enclaves.make_ready(enclave, appraisal, evidence)


def _enclave(service: Service, manifest: Manifest) -> Enclave | None:
    """The enclave that is being started; the same for everybody who asks."""
    home = enclaves.home_of(service.run, manifest.runtime, lambda: restoring.opens_anywhere(service.run))
    with transaction.atomic():
        if Service.objects.select_for_update().get(pk=service.pk).state != ServiceState.STARTING:
            return None
        being_started = enclaves.living(service.run_id, serves=True).first()
        if being_started is not None:
            return being_started
        return enclaves.name_next(service.run, server_of(manifest), home, serves=True)


def _look_after(service: Service) -> None:
    """Whether the enclave lives, and keeps no session of a revoked site."""
    if not client.is_running(service.enclave):
        raise Refusal("supervisor.no_enclave")
    client.call(service.enclave, REVOKE, RevokeArguments(tuple(queries.revoked_sites(service))))


def _judge(service: Service, refusal: Refusal) -> None:
    """A dead enclave is replaced, as is one whose machine stays away where another will do; a passing trouble
    is left to the sweep, anything else ends the service."""
    run_id, state = service.run_id, service.state
    is_lost = is_loss(refusal) or (state in queries.ACTIVE and moving.leaves(service.run, refusal))
    if is_lost and state == ServiceState.SERVING:
        lost(run_id, refusal.code)
    elif is_lost and state == ServiceState.STARTING:
        with transaction.atomic():
            Service.objects.filter(pk=service.pk).update(losses=service.losses + 1)
            enclaves.give_up(service.run_id, serves=True)
    elif is_passing(refusal) or state not in (ServiceState.STARTING, ServiceState.SERVING):
        logger.info("the service of run %s waits: %s", run_id, refusal.code)
    else:
        services.fail(service, refusal.code)
        dispatch.send(dispatch.SERVE, run_id)
