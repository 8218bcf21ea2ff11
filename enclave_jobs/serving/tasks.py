"""Celery's task of a served model."""

from __future__ import annotations

from celery import shared_task

from enclave_jobs.conductor import serving


@shared_task(name="enclave_jobs.serve_run")
def serve_run(run_id: str) -> None:
    """Start, look after, or stop the enclave that serves a run's model."""
    serving.advance(run_id)
