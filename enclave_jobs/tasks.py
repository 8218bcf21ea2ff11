"""Celery's tasks: each takes one id, does one step, and may run twice. What they do is in `conductor/`."""

from __future__ import annotations

from celery import shared_task

from enclave_jobs import operations, proving, retention, uploads
from enclave_jobs.conductor import advancing, releasing, serving, sweeping
from federation.attestation import pcs
from federation.notices import services as notices
from federation.people import resets


@shared_task(name="enclave_jobs.advance_run")
def advance_run(run_id: str) -> None:
    """Move a run on by one step, whatever step that is."""
    advancing.advance(run_id)


@shared_task(name="enclave_jobs.end_run")
def end_run(run_id: str) -> None:
    """Stop the enclaves of a run that is over."""
    advancing.end(run_id)


@shared_task(name="enclave_jobs.serve_run")
def serve_run(run_id: str) -> None:
    """Start, look after, or stop the enclave that serves a run's model."""
    serving.step(run_id)


@shared_task(name="enclave_jobs.release_run")
def release_run(run_id: str) -> None:
    """Let a run's parameters out, or stop the enclave that did."""
    releasing.step(run_id)


@shared_task(name="enclave_jobs.prove_model")
def prove_model(job_id: int) -> None:
    """Register a base model, or try a study's tuning and freeze it."""
    proving.step(job_id)


@shared_task(name="enclave_jobs.read_back")
def read_back(upload_id: str) -> None:
    """Read a large upload back from the bucket; the storage's word for it is not enough."""
    uploads.read_back(upload_id)


@shared_task(name="enclave_jobs.upkeep")
def upkeep() -> None:
    """Forget what is of no more use."""
    sweeping.upkeep()


@shared_task(name="enclave_jobs.forget")
def forget() -> None:
    """Remove what is not kept any more."""
    retention.forget()


@shared_task(name="enclave_jobs.refresh_collateral")
def refresh_collateral() -> None:
    """Fetch collateral for the kinds of platforms that are due."""
    pcs.refresh()


@shared_task(name="enclave_jobs.notify")
def notify() -> None:
    """Mail to those whom new events concern, and links for new passwords."""
    resets.send_due()
    notices.send_due()


@shared_task(name="enclave_jobs.sweep")
def sweep() -> None:
    """Take up whatever was left lying, and note for the operator's page that the clock goes."""
    operations.note_sweep()
    sweeping.sweep()
