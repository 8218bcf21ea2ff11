"""Jobs on base models, each in a bounded child: register one, or try a study's tuning and freeze it."""

from __future__ import annotations

import logging
import time

from django.db import transaction

from contracts.model_proof import read_proof, way_of
from contracts.refusal import Refusal
from enclave_host.base_models import resolve
from enclave_host.child_calls import ChildProgress, Tell
from enclave_host.proving import prove_study
from enclave_jobs.base_models import model_jobs
from enclave_jobs.base_models.registering import register
from federation.studies import services
from federation.studies.base_models import base_model_of
from federation.studies.freezing import build_manifest
from federation.studies.models import ModelJob, ModelJobKind
from federation.studies.plan import read
from federation.studies.tried import subject_of

logger = logging.getLogger(__name__)
TELL_SECONDS = 1.0


def perform(job_id: int) -> None:
    """Do the job, if nobody does it yet; it ends done or refused."""
    job = model_jobs.take(job_id)
    if job is None:
        return
    try:
        if job.kind == ModelJobKind.REGISTER:
            register(job.source, job.task, name=job.name, tell=_teller(job))
            model_jobs.finish(job)
        else:
            _try_and_freeze(job)
    except Refusal as refusal:
        model_jobs.refuse(job, refusal)
    except Exception:
        model_jobs.refuse(job, Refusal("internal"))
        logger.exception("job %d on a model failed", job.pk)


def _try_and_freeze(job: ModelJob) -> None:
    assert job.study is not None
    plan = read(job.study.settings)
    manifest = build_manifest(job.study)
    prove_study(
        resolve(manifest.model.source),
        read_proof(base_model_of(plan).proof),
        way_of(plan.method, plan.placement, plan.adapter),
        manifest.adapter,
        cut=manifest.split.cut if manifest.split else 0,
        tokens=manifest.model.max_tokens,
        labels=len(manifest.model.labels),
        tell=_teller(job),
    )
    with transaction.atomic():
        model_jobs.finish(job, subject_of(manifest))
        services.freeze(job.by, job.study)  # refuses if the draft was changed meanwhile


def _teller(job: ModelJob) -> Tell:
    """Write down each new stage, and within one no more than a line a second."""
    last: tuple[str, float] = ("", 0.0)

    def tell(progress: ChildProgress) -> None:
        nonlocal last
        stage = f"{progress.stage} {progress.way}"
        if stage != last[0] or time.monotonic() - last[1] > TELL_SECONDS:
            last = (stage, time.monotonic())
            model_jobs.note_progress(job, progress)

    return tell
