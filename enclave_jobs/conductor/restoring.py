"""Give a new server enclave what its predecessor left: the last published state.

A TEE with a sealing key opens it at once. On one without (TDX), the sites hold shares of the state's key
(contracts/sealed/shares.py): each is told its own, hands it back within what it seals to the new enclave, and
the state is opened when enough have.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from contracts.refusal import Refusal
from contracts.sealed.escrow import Escrow
from contracts.sealed.state import read_escrow
from contracts.server_calls import RESTORE, RestoreArguments
from enclave_jobs.blobs import store as blobs
from enclave_jobs.conductor.published import last_published
from enclave_jobs.enclaves.models import Enclave
from enclave_jobs.runs.models import Round, Run
from enclave_jobs.supervisor import client

NOT_OPENED = ("sealing.refused", "sealing.not_sealed", "sealing.too_large")
"""Asking again cannot fix these here: the bytes were compared with their hash before, and the key is this
machine's own."""
Restored = Literal["now", "before", "waits for shares"]


def restore(run: Run, enclave: Enclave) -> Restored:
    """Bring the last published state, if there is one.

    Raises: `run.state_lost` where nothing was kept, `run.state_sealed_elsewhere` where this machine's key
    does not open it, and what the enclave raises, but for shares that are still to come.
    """
    last = last_published(run)
    if last is None:
        return "before"
    if not last.state_blob:
        raise Refusal("run.state_lost")
    try:
        client.call(enclave.pk, RESTORE, RestoreArguments(last.state_blob), inputs=(last.state_blob,))
    except Refusal as refusal:
        if refusal.code == "state.not_fresh":
            return "before"
        if refusal.code in ("shares.too_few", "shares.none_fit"):
            return "waits for shares"
        if refusal.code in ("blob.unknown", "mailbox.hash_mismatch"):
            raise Refusal("run.state_lost") from refusal
        if refusal.code in NOT_OPENED:
            raise Refusal("run.state_sealed_elsewhere") from refusal
        raise
    return "now"


def escrows(run: Run, sites: Iterable[str]) -> dict[str, Escrow | None]:
    """Site id -> its own share of the key of the last published state, wrapped for it; None where it has
    none.

    Raises: `run.state_lost`.
    """
    last = last_published(run)
    escrow = None if last is None else _escrow(last)
    return {site: _own(escrow, site) for site in sites}


def _escrow(last: Round) -> Escrow | None:
    if not last.state_blob:
        return None
    try:
        with blobs.opened(last.state_blob) as file:
            return read_escrow(file)
    except FileNotFoundError as error:
        raise Refusal("run.state_lost") from error


def opens_anywhere(run: Run) -> bool:
    """Whether a new enclave needs nothing that the machine of the last one has: nothing was published yet, or
    sites hold shares of the key of the last published state.

    Raises: as `escrows`.
    """
    last = last_published(run)
    return last is None or _escrow(last) is not None


def _own(escrow: Escrow | None, site: str) -> Escrow | None:
    if escrow is None or site not in escrow.shares:
        return None
    return Escrow(escrow.threshold, escrow.commitment, {site: escrow.shares[site]})
