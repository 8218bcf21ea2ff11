"""How runs move on and end. The conductor (enclave_jobs) and the run page call these verbs."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from django.db import transaction
from django.utils import timezone

from enclave.errors import Fact, Refusal
from federation.audit.services import record
from federation.people.models import User
from federation.studies import permissions, signals
from federation.studies.models import Run, RunState, StudyState
from federation.studies.transitions import RUN, apply

log = logging.getLogger(__name__)


def finish(run: Run, summary: dict[str, Any]) -> bool:
    """All rounds are done: keep the summary, finish the study. False if the run had moved on."""
    with transaction.atomic():
        ended: dict[str, Any] = {"summary": summary, "finished_at": timezone.now()}
        if not apply(run, RunState.FINISHING, RunState.FINISHED, **ended):
            return False
        apply(run.study, StudyState.RUNNING, StudyState.FINISHED)
        record(None, "run.finished", f"run:{run.pk}")
        transaction.on_commit(partial(_ended, run.pk))
    return True


def fail(run: Run, code: str, facts: dict[str, Fact] | None = None) -> bool:
    """The run cannot go on; the code says why. Its study goes back to draft. False if the run had ended."""
    with transaction.atomic():
        ended: dict[str, Any] = {"error_code": code, "finished_at": timezone.now()}
        if not _leave(run, RunState.FAILED, facts={"code": code, **(facts or {})}, **ended):
            return False
        Run.objects.filter(pk=run.pk).update(facts=facts or {})
        run.facts = facts or {}
        apply(run.study, StudyState.RUNNING, StudyState.DRAFT, manifest=None, manifest_hash="")
        record(None, "run.failed", f"run:{run.pk}", code=code)
        transaction.on_commit(partial(_ended, run.pk))
    return True


def cancel(by: User, run: Run, why: str = "") -> None:
    """Somebody stops the run for good. Refuses with `auth.forbidden` or `run.wrong_state`."""
    if not permissions.can_cancel(by, run.study):
        raise Refusal("auth.forbidden")
    with transaction.atomic():
        if not _leave(run, RunState.CANCELLED, facts={"why": why[:500]}, finished_at=timezone.now()):
            raise Refusal("run.wrong_state", state=run.state)
        apply(run.study, StudyState.RUNNING, StudyState.CANCELLED)
        record(by, "run.cancelled", f"run:{run.pk}", why=why[:500])
        transaction.on_commit(partial(_ended, run.pk))


def pause(by: User, run: Run) -> None:
    """Offer no new work until `resume`; work that sites have taken goes on."""
    _steer(by, run, [RunState.JOINING, RunState.RUNNING], RunState.PAUSED)


def resume(by: User, run: Run) -> None:
    """Go on where the run was paused: with its rounds, or, if it has none yet, with joining."""
    _steer(by, run, [RunState.PAUSED], RunState.RUNNING if run.rounds.exists() else RunState.JOINING)


def _steer(by: User, run: Run, sources: list[RunState], target: RunState) -> None:
    if not permissions.can_edit(by, run.study):
        raise Refusal("auth.forbidden")
    with transaction.atomic():
        state = Run.objects.select_for_update().get(pk=run.pk).state
        if state not in sources or not apply(run, state, target):
            raise Refusal("run.wrong_state", state=state)
        record(by, f"run.{'paused' if target == RunState.PAUSED else 'resumed'}", f"run:{run.pk}")


def _leave(run: Run, target: RunState, *, facts: dict[str, Fact], **changes: Any) -> bool:
    """Move a live run, whatever state it is in, to its end."""
    run.state = Run.objects.select_for_update().get(pk=run.pk).state
    return (run.state, target) in RUN and apply(run, run.state, target, facts=facts, **changes)


def _ended(run_id: str) -> None:
    for receiver, answer in signals.run_ended.send_robust(sender=Run, run_id=run_id):
        if isinstance(answer, Exception):
            log.error("run %s: %r did not take its end: %s", run_id, receiver, type(answer).__name__)
