"""A task's message carries the ids that held where it was sent, and they hold while it is worked on. Where
one message stands for several wishes (conductor/pending.py), they are those of the first."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Final

from celery.signals import before_task_publish, task_postrun, task_prerun

from enclave_jobs.conductor import dispatch
from federation import logs

ABOUT: Final = "fedslice_about"
_open: dict[str, AbstractContextManager[None]] = {}


@before_task_publish.connect
def _carried(headers: dict[str, object] | None = None, **_: object) -> None:
    if headers is not None and (ids := logs.about()):
        headers[ABOUT] = ids


@task_prerun.connect
def _begins(task_id: str, task: Any, args: tuple[object, ...], **_: object) -> None:
    ids = task.request.get(ABOUT) or {}
    if task.name in dispatch.OF_A_RUN:
        ids = {**ids, "run": args[0]}
    _open[task_id] = logs.telling(**ids)
    _open[task_id].__enter__()


@task_postrun.connect
def _ends(task_id: str, **_: object) -> None:
    if (telling := _open.pop(task_id, None)) is not None:
        telling.__exit__(None, None, None)
