"""Several supervisors for all runs (FEDSLICE_SUPERVISORS): where a run's first enclave belongs.

The one with the most free memory of those that answer, have the manifest's runtime and are not being drained.
What an enclave needs shows only once it has loaded, so each that is there, or was just sent there, counts for
at least LEAST_BYTES. Later enclaves of a run stay with its first one, where what they seal opens;
conductor/moving.py knows which need not.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from django.conf import settings

from contracts.refusal import Refusal
from enclave_jobs.enclaves.models import Enclave, EnclaveState
from enclave_jobs.supervisor import client
from enclave_jobs.supervisor.protocol import Room

logger = logging.getLogger(__name__)

LEAST_BYTES: Final = 1 << 30


def place(runtime: str) -> str:
    """The address of the supervisor where a new run's enclave shall be.

    Raises: `supervisor.unreachable` where none that could take it answers, and `supervisor.draining` where
    all are being drained, which pass; `supervisor.runtime_unavailable` where all answer, and none has the
    runtime.
    """
    rooms = answering()
    able = {address: room for address, room in rooms.items() if runtime in room.runtimes}
    if not able and len(rooms) < len(settings.SUPERVISORS):
        raise Refusal("supervisor.unreachable")
    if not able:
        raise Refusal("supervisor.runtime_unavailable", runtime=runtime)
    open_ones = {address: room for address, room in able.items() if not room.draining}
    if not open_ones:
        raise Refusal("supervisor.draining")
    coming = _coming()
    free = {
        address: room.free - sum(max(0, LEAST_BYTES - used) for used in room.enclaves.values())
        - LEAST_BYTES * len(coming.get(address, set()) - room.enclaves.keys())
        for address, room in open_ones.items()
    }  # fmt: skip
    # The address decides between equals, so that two workers agree.
    return max(free, key=lambda address: (free[address], address))


def answering() -> dict[str, Room]:
    """The room at each supervisor of the pool that answers; all are asked at once."""
    with ThreadPoolExecutor(max(1, len(settings.SUPERVISORS))) as pool:
        rooms = zip(settings.SUPERVISORS, pool.map(_room, settings.SUPERVISORS), strict=True)
        return {address: room for address, room in rooms if room is not None}


def known() -> list[str]:
    """Every address that may hold an enclave now: the pool's, our own machine's, and where runs have some."""
    alone = not settings.SUPERVISORS or settings.SUPERVISOR_ADDRESS
    own = [settings.SUPERVISOR_ADDRESS or ""] if alone else []
    held = Enclave.objects.filter(state__in=(EnclaveState.STARTING, EnclaveState.READY)).order_by()
    return sorted({*own, *settings.SUPERVISORS, *held.values_list("supervisor", flat=True).distinct()})


def is_gone(address: str) -> bool:
    """Whether the operator has taken it out of the pool."""
    ours = {*settings.SUPERVISORS, settings.SUPERVISOR_ADDRESS, ""}
    return bool(settings.SUPERVISORS) and address not in ours


def beside(address: str) -> str | None:
    """Another supervisor of the pool on that machine, as while one is upgraded."""
    machine = address.rpartition(":")[0]
    return next((each for each in settings.SUPERVISORS if each.rpartition(":")[0] == machine), None)


def stop_left_behind(address: str) -> int:
    """Stop what a supervisor still has of enclaves that are entered as over: their runs have gone on without
    them while it was cut off. How many there were.

    Raises: as `client.room`.
    """
    over = Enclave.objects.filter(
        pk__in=client.room(address).enclaves, state__in=(EnclaveState.LOST, EnclaveState.STOPPED)
    )
    for enclave in over:
        logger.warning("enclave %s, which its run has left, is stopped at %s", enclave.pk, address)
        client.stop(enclave.pk)
    return len(over)


def drained(address: str) -> int:
    """How many enclaves that live there keep it from being stopped without a loss: entered, or still listed.
    Those that their runs have left are stopped.

    Raises: as `client.room`.
    """
    stop_left_behind(address)
    rows = Enclave.objects.filter(
        supervisor=address, state__in=(EnclaveState.STARTING, EnclaveState.READY)
    ).values_list("pk", flat=True)
    return len({*rows, *client.room(address).enclaves})


def _room(address: str) -> Room | None:
    try:
        return client.room(address)
    except Refusal as refusal:
        logger.warning("the supervisor at %s is left out: %s", address, refusal.code)
        return None


def _coming() -> dict[str, set[str]]:
    """Enclaves that were entered with a supervisor and are being started, by its address."""
    found: dict[str, set[str]] = {}
    starting = Enclave.objects.filter(state=EnclaveState.STARTING).values_list("supervisor", "pk")
    for address, enclave in starting:
        found.setdefault(address, set()).add(enclave)
    return found
