"""Celery's task of a release."""

from __future__ import annotations

from celery import shared_task

from enclave_jobs.conductor import releasing


@shared_task(name="enclave_jobs.release_run")
def release_run(run_id: str) -> None:
    """Let a run's parameters out, or stop the enclave that did."""
    releasing.advance(run_id)
