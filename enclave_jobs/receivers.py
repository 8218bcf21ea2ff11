"""What the conductor does when the control plane launches a run, or a run comes to its end: it sends a
task."""

from __future__ import annotations

from typing import Any

from django.dispatch import receiver

from enclave_jobs.conductor import dispatch
from federation.releases.signals import release_ordered
from federation.serving.signals import serving_changed
from federation.studies.signals import model_job_asked, run_ended, run_launched


@receiver(model_job_asked)
def prove(sender: Any, job_id: int, **_: Any) -> None:
    """Have a base model looked at."""
    dispatch.send(dispatch.PROVE, job_id)


@receiver(run_launched)
def start(sender: Any, run_id: str, **_: Any) -> None:
    """Start the run's enclave."""
    dispatch.send(dispatch.ADVANCE, run_id)


@receiver(run_ended)
def stop(sender: Any, run_id: str, **_: Any) -> None:
    """Stop the run's enclave."""
    dispatch.send(dispatch.END, run_id)


@receiver(serving_changed)
def serve(sender: Any, run_id: str, **_: Any) -> None:
    """Start, look after, or stop the enclave that serves the run's model."""
    dispatch.send(dispatch.SERVE, run_id)


@receiver(release_ordered)
def release(sender: Any, run_id: str, **_: Any) -> None:
    """Have an enclave let the run's parameters out."""
    dispatch.send(dispatch.RELEASE, run_id)
