"""Celery's tasks: those of the clock (queues.py), and by import those of each room. Each takes one id or
nothing, does one step, and may run twice."""

from __future__ import annotations

from celery import shared_task

from enclave_jobs import operations, retention
from enclave_jobs.base_models import tasks as base_models  # noqa: F401  Celery looks here for all tasks
from enclave_jobs.blobs import tasks as blobs  # noqa: F401
from enclave_jobs.conductor import sweeping
from enclave_jobs.releases import tasks as releases  # noqa: F401
from enclave_jobs.runs import tasks as runs  # noqa: F401
from enclave_jobs.serving import tasks as serving  # noqa: F401
from federation.attestation import pcs
from federation.notices import services as notices
from federation.people import resets


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
