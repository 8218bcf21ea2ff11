"""Celery's task of uploads into a bucket."""

from __future__ import annotations

from celery import shared_task

from enclave_jobs.blobs import uploads


@shared_task(name="enclave_jobs.read_back")
def read_back(upload_id: str) -> None:
    """Read a large upload back from the bucket; the storage's word for it is not enough."""
    uploads.read_back(upload_id)
