"""Celery's tasks of a run. What they do is in `conductor/`."""

from __future__ import annotations

from celery import shared_task

from enclave_jobs.conductor import advancing


@shared_task(name="enclave_jobs.advance_run")
def advance_run(run_id: str) -> None:
    """Move a run on by one step, whatever step that is."""
    advancing.advance(run_id)


@shared_task(name="enclave_jobs.end_run")
def end_run(run_id: str) -> None:
    """Stop the enclaves of a run that is over."""
    advancing.end(run_id)
