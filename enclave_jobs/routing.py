"""Celery's router: which queue a task goes to. What works on a run goes where its method's workers are."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from contracts.refusal import Refusal
from enclave_jobs import dispatch
from enclave_jobs.conductor import methods
from enclave_jobs.queues import ENCLAVE, MODELS
from enclave_jobs.runs.models import Run


def route(name: str, args: list[Any], *_options: Any, **_task: Any) -> dict[str, str] | None:
    """The queue of the task of this name, by the one id that it carries; None for what is short, which goes
    to the default."""
    if name == dispatch.PROVE:
        return {"queue": MODELS}
    return {"queue": _queue_of_run(str(args[0]))} if name in dispatch.OF_A_RUN else None


def _queue_of_run(run_id: str) -> str:
    try:
        return _queue(run_id)
    except (Run.DoesNotExist, Refusal):
        return ENCLAVE


@lru_cache(4096)
def _queue(run_id: str) -> str:
    """What a run's manifest says about it never changes; a run that is not there is not remembered."""
    return methods.of_run(Run.objects.get(pk=run_id)).queue
