"""The supervisor tells when an enclave has finished what was asked of it, so that no worker waits for it."""

from __future__ import annotations

import logging

from django.db import DatabaseError, connections

from enclave_jobs import dispatch
from enclave_jobs.enclaves.models import Enclave

logger = logging.getLogger(__name__)


def over(enclave: str) -> None:
    """Send the step that goes on from here, whatever came of the work. Called in a thread of the supervisor;
    where it fails, the sweep asks again."""
    try:
        row = Enclave.objects.filter(pk=enclave).only("run_id", "serves", "releases").first()
        if row is not None:
            dispatch.send(_next(row), row.run_id)
    except DatabaseError as error:
        logger.warning("enclave %s is done, which could not be told (%s)", enclave, type(error).__name__)
    finally:
        connections.close_all()


def _next(enclave: Enclave) -> str:
    if enclave.serves:
        return dispatch.SERVE
    return dispatch.RELEASE if enclave.releases else dispatch.ADVANCE
