"""Work on base models that takes long: to register one, and to look at it again before a study is frozen.

A person asks on a page; a worker that may load models does it in a bounded child (proving.py) and
says how far it is. The row is the truth, and a message only a hint.
"""

from __future__ import annotations

from datetime import timedelta

import msgspec
from django.db import transaction
from django.utils import timezone

from contracts.refusal import Refusal
from enclave_host.child_calls import ChildProgress
from enclave_jobs import dispatch
from federation.audit.services import record
from federation.people.models import User
from federation.studies import permissions
from federation.studies.freezing import build_manifest
from federation.studies.models import ModelJob, ModelJobKind, ModelJobState, Study, StudyState
from federation.transitions import Pairs, move

STATES: Pairs = frozenset(
    {("waiting", "running"), ("running", "done"), ("running", "refused"), ("running", "waiting")}
)
OPEN = (ModelJobState.WAITING, ModelJobState.RUNNING)
LOST_AFTER = timedelta(minutes=45)
"""Longer than a child may take: whoever ran the job is gone."""
SENT_AGAIN_AFTER = timedelta(minutes=1)


def ask_to_register(by: User, source: str, task: str, name: str = "") -> ModelJob:
    """Have a base model registered.

    Raises: `auth.forbidden`.
    """
    if not permissions.can_register_models(by):
        raise Refusal("auth.forbidden")
    with transaction.atomic():
        job = ModelJob.objects.create(
            kind=ModelJobKind.REGISTER, by=by, source=source.strip()[:200], task=task, name=name.strip()[:200]
        )
        record(by, "model.registration_asked", f"model-job:{job.pk}", source=job.source, task=task)
        dispatch.after_commit(dispatch.PROVE, job.pk)
    return job


def ask_to_freeze(by: User, study: Study) -> ModelJob:
    """Have the study's model looked at again, exactly as the study will tune it, and the study frozen if
    all is well. Asked while it is under way, it is the same job.

    Raises: `auth.forbidden`, `study.wrong_state`, or what `build_manifest` raises: what can be said at once
    is.
    """
    if not permissions.can_edit(by, study):
        raise Refusal("auth.forbidden")
    with transaction.atomic():
        locked = Study.objects.select_for_update().get(pk=study.pk)
        if locked.state != StudyState.DRAFT:
            raise Refusal("study.wrong_state", state=locked.state)
        under_way = locked.model_jobs.filter(state__in=OPEN).first()
        if under_way is not None:
            return under_way
        manifest = build_manifest(locked)
        job = ModelJob.objects.create(
            kind=ModelJobKind.FREEZE,
            by=by,
            study=locked,
            source=manifest.model.source,
            task=manifest.model.task,
        )
        record(by, "study.freeze_asked", f"study:{study.pk}")
        dispatch.after_commit(dispatch.PROVE, job.pk)
    return job


def take(job_id: int) -> ModelJob | None:
    """The job, for the one worker that has it from now on; None for every other."""
    job = ModelJob.objects.select_related("by", "study").filter(pk=job_id).first()
    if job is None or not move(job, STATES, "waiting", "running", moved_at=timezone.now(), progress={}):
        return None
    return job


def note_progress(job: ModelJob, progress: ChildProgress) -> None:
    """How far it is; shows that it lives."""
    ModelJob.objects.filter(pk=job.pk, state=ModelJobState.RUNNING).update(
        progress=msgspec.to_builtins(progress), moved_at=timezone.now()
    )


def finish(job: ModelJob, subject: str = "") -> None:
    """It is done; `subject` names what was seen to work (`subject_of`)."""
    move(job, STATES, "running", "done", subject=subject, moved_at=timezone.now(), progress={})


def refuse(job: ModelJob, refusal: Refusal) -> None:
    """It was refused, and can be asked for again."""
    changes = {"error_code": refusal.code, "facts": dict(refusal.facts), "progress": {}}
    move(job, STATES, "running", "refused", moved_at=timezone.now(), **changes)


def to_send() -> list[int]:
    """Jobs that wait although a message was sent a while ago, and those whose worker is gone."""
    now = timezone.now()
    lost = ModelJob.objects.filter(state=ModelJobState.RUNNING, moved_at__lt=now - LOST_AFTER)
    for job in lost:
        move(job, STATES, "running", "waiting", progress={})
    due = ModelJob.objects.filter(state=ModelJobState.WAITING, moved_at__lt=now - SENT_AGAIN_AFTER)
    ids = list(due.values_list("pk", flat=True))
    ModelJob.objects.filter(pk__in=ids).update(moved_at=now)
    return ids
