"""End a run: sum it up, check its receipts once more, and stop its enclave."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from django.db.models import Sum
from django.utils import timezone

from contracts.receipt_chain import parse_receipt, verify_chain
from contracts.refusal import Refusal
from enclave_jobs.blobs import store as blobs
from enclave_jobs.blobs.models import Blob, BlobKind
from enclave_jobs.conductor import features
from enclave_jobs.enclaves import services as enclaves
from enclave_jobs.enclaves.models import Enclave, EnclaveState
from enclave_jobs.enclaves.transitions import ENCLAVE
from enclave_jobs.jobs import leases
from enclave_jobs.runs import services as runs
from enclave_jobs.runs.models import Round, RoundKind, RoundState, Run
from enclave_jobs.supervisor import client
from federation.transitions import move


def advance(run: Run) -> None:
    """Finish with a summary.

    Raises: `receipt.chain_broken` where the receipts do not hold together.
    """
    runs.finish(run, summary(run))


def fail(run: Run, refusal: Refusal) -> None:
    """End the run with a code; jobs that are out are taken back."""
    if runs.fail(run, refusal.code, dict(refusal.facts)):
        leases.withdraw(run=run)


def summary(run: Run) -> dict[str, Any]:
    """What a run came to: counts, bytes on the wire of sealed files, seconds, and scores of the parameters
    that it has chosen.

    `accuracy` and its kin are of the validation rows; `test` holds those of the test rows, where these were
    opened. `best_round` made the parameters; None: the last ones stand, as no round's could be compared.
    """
    published = list(Round.objects.filter(run=run, state=RoundState.PUBLISHED).order_by("number"))
    receipts = [parse_receipt(round.receipt or {}) for round in published]
    attested = set(Enclave.objects.filter(run=run).values_list("signing_key", flat=True)) - {""}
    verify_chain(receipts, manifest=run.manifest_hash, attested=attested)
    best = receipts[-1].receipt.best if receipts else None
    scored = {signed.receipt.previous: round for signed, round in zip(receipts, published, strict=True)}
    pooled = {} if best is None else scored[best.receipt].metrics.get("pooled", {})
    stored = Blob.objects.filter(run=run)
    up = stored.filter(kind__in=(BlobKind.UPDATE, BlobKind.SHARD)).aggregate(total=Sum("bytes"))["total"] or 0
    down = stored.aggregate(total=Sum("downloaded_bytes"))["total"] or 0
    return {
        "sites": len({item.site for signed in receipts for item in signed.receipt.inputs}),
        "rounds": sum(round.kind == RoundKind.TRAIN for round in published),
        "best_round": None if best is None else best.round,
        "rounds_failed": Round.objects.filter(run=run, state=RoundState.FAILED).count(),
        "evaluated": any(round.kind == RoundKind.TEST for round in published),
        "samples": sum(item.samples for signed in receipts for item in signed.receipt.inputs),
        "bytes_up": up,
        "bytes_down": down,
        "seconds": round((timezone.now() - run.created_at).total_seconds(), 1),
        "enclave_restarts": Enclave.objects.filter(run=run).count() - 1,
        "receipts_verified": len(receipts),
        "development": any(signed.receipt.development for signed in receipts),
        "run_manifest": run.manifest_hash,
        **(published[-1].metrics.get("tail", {}) if published else {}),
        **pooled,
        "test": next((row.metrics.get("test", {}) for row in published if row.kind == RoundKind.TEST), {}),
    }


def stop_enclaves(run_id: str) -> None:
    """After the end of a run: its jobs are taken back, its enclaves stopped, its kept answers dropped, and
    the sites' sealed updates removed: the keys that could open them have died. So are their feature shards,
    unless another run lives on them. Their rows stay, with hash and size."""
    leases.withdraw(run_id=run_id)
    for enclave in Enclave.objects.filter(
        run_id=run_id, state__in=(EnclaveState.STARTING, EnclaveState.READY), serves=False, releases=False
    ):
        enclaves.stop_there(enclave)
        move(enclave, ENCLAVE, enclave.state, EnclaveState.STOPPED)
    _stop_left_behind(run_id)
    client.forget(run_id)
    updates = Blob.objects.filter(run_id=run_id, kind=BlobKind.UPDATE, complete=True)
    for sha256 in (
        *updates.values_list("sha256", flat=True),
        *features.remove_shards(run_id, leases.LIVE_RUNS),
    ):
        blobs.remove(sha256)
        Blob.objects.filter(pk=sha256).update(complete=False)


def _stop_left_behind(run_id: str) -> None:
    """A run that left a machine which was only cut off (moving.py) may have an enclave there still."""
    here = Enclave.objects.filter(run_id=run_id).order_by("epoch").values_list("supervisor", flat=True).last()
    lost = Enclave.objects.filter(run_id=run_id, state=EnclaveState.LOST)
    for enclave in lost.exclude(supervisor=here or ""):
        with suppress(Refusal):
            client.stop(enclave.pk)
