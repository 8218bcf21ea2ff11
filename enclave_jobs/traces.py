"""A task's message carries the ids that held where it was sent, and they hold while it is worked on. Where
one message stands for several wishes (pending.py), they are those of the first."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Final

from celery import states
from celery.signals import before_task_publish, task_postrun, task_prerun

from enclave_jobs import dispatch
from federation import logs, otlp, spans

ABOUT: Final = "fedslice_about"
_open: dict[str, ExitStack] = {}
_spans: dict[str, spans.Span] = {}


@before_task_publish.connect
def _carried(headers: dict[str, object] | None = None, **_: object) -> None:
    if headers is not None and (ids := logs.about()):
        headers[ABOUT] = ids


@task_prerun.connect
def _begins(task_id: str, task: Any, args: tuple[object, ...], **_: object) -> None:
    ids = task.request.get(ABOUT) or {}
    if task.name in dispatch.OF_A_RUN:
        ids = {**ids, "run": args[0]}
    _open[task_id] = opened = ExitStack()
    opened.enter_context(logs.telling(**ids))
    span = spans.begin(task.name, kind=otlp.CONSUMER)
    if span is not None:
        opened.enter_context(logs.telling(traceparent=span.carried))
        _spans[task_id] = span


@task_postrun.connect
def _ends(task_id: str, state: str = "", **_: object) -> None:
    spans.end(_spans.pop(task_id, None), failed=state == states.FAILURE)
    if (opened := _open.pop(task_id, None)) is not None:
        opened.close()
