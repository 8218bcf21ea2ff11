"""Celery's task of jobs on base models."""

from __future__ import annotations

from celery import shared_task

from enclave_jobs.base_models import proving


@shared_task(name="enclave_jobs.prove_model")
def prove_model(job_id: int) -> None:
    """Register a base model, or try a study's tuning and freeze it."""
    proving.perform(job_id)
