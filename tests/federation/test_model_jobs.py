"""What takes long is asked for on a page, done by a worker, and believed only as far as it was seen."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from contracts.model_proof import WAYS, Verdict
from contracts.refusal import Refusal
from enclave_jobs.base_models import model_jobs, proving
from federation.people.models import User
from federation.studies import services
from federation.studies.freezing import build_manifest
from federation.studies.models import BaseModel, ModelJob, Study, StudyState
from federation.studies.tried import subject_of
from tests.federation.cast import MODEL
from tests.support.beginnings import tiny_model
from tests.support.proofs import made_proof

pytestmark = pytest.mark.django_db


def refused(code: str, act: Any, *arguments: Any) -> None:
    with pytest.raises(Refusal) as caught:
        act(*arguments)
    assert caught.value.code == code


def settle(study: Study, **changes: Any) -> None:
    Study.objects.filter(pk=study.pk).update(settings={**study.settings, **changes})
    study.refresh_from_db()


def test_a_model_is_registered_and_a_study_frozen_by_a_worker_that_loads_the_model(
    olga: User, lena: User, draft: Study, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in tiny_model().iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    asked = model_jobs.ask_to_register(olga, str(folder), "sequence-classification", "tiny")
    proving.perform(asked.pk)
    asked.refresh_from_db()
    assert (asked.state, asked.error_code) == ("done", "")
    model = BaseModel.objects.get(name="tiny")
    assert (model.max_tokens, model.targets) == (32, ["query", "value"])
    assert all(model.verdict(way).proven for way in WAYS)

    settle(draft, model=str(folder), max_tokens=16, placement="masked")
    job = model_jobs.ask_to_freeze(lena, draft)
    assert model_jobs.ask_to_freeze(lena, draft) == job  # one at a time
    proving.perform(job.pk)
    job.refresh_from_db()
    draft.refresh_from_db()
    assert (job.state, draft.state) == ("done", StudyState.APPROVING)

    services.reopen(lena, draft)
    reported = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**reported, "hidden_act": "relu"}))
    job = model_jobs.ask_to_freeze(lena, draft)
    proving.perform(job.pk)
    job.refresh_from_db()
    draft.refresh_from_db()
    assert (job.state, job.error_code, job.facts) == (
        "refused",
        "model.file_changed",
        {"file": "config.json"},
    )
    assert draft.state == StudyState.DRAFT


def test_a_study_that_was_not_tried_or_was_changed_since_is_not_frozen(lena: User, draft: Study) -> None:
    refused("study.untried", services.freeze, lena, draft)
    subject = subject_of(build_manifest(draft))
    ModelJob.objects.create(kind="freeze", state="running", by=lena, study=draft, subject=subject)
    refused("study.untried", services.freeze, lena, draft)
    ModelJob.objects.update(state="done")
    settle(draft, rank=16)
    refused("study.untried", services.freeze, lena, draft)
    settle(draft, rank=8, rounds=7)  # decides nothing about what is tried
    assert services.freeze(lena, draft).training.rounds == 7


def test_a_way_that_was_not_proven_is_not_frozen(lena: User, draft: Study) -> None:
    unproven = {**{way: Verdict() for way in WAYS}, "all_in_tee/lora": Verdict("model.one_layer")}
    services.register_base_model(MODEL, made_proof(ways=unproven))
    refused("study.unproven", model_jobs.ask_to_freeze, lena, draft)
    BaseModel.objects.update(proof={})
    refused("study.unproven", build_manifest, draft)
    services.register_base_model(MODEL, made_proof())
    BaseModel.objects.update(files={"config.json": "d" * 64})  # other files than those that were proven
    refused("study.unproven", build_manifest, draft)


def test_only_operators_register_models_and_only_its_lead_freezes_a_study(
    olga: User, lena: User, ludo: User, draft: Study
) -> None:
    refused("auth.forbidden", model_jobs.ask_to_register, lena, "x", "causal-lm")
    for other in (olga, ludo):
        refused("auth.forbidden", model_jobs.ask_to_freeze, other, draft)
    assert not ModelJob.objects.exists()


def test_what_cannot_be_registered_is_refused_in_the_jobs_own_words(olga: User, tmp_path: Path) -> None:
    job = model_jobs.ask_to_register(olga, str(tmp_path), "causal-lm")
    proving.perform(job.pk)
    job.refresh_from_db()
    assert (job.state, job.error_code, job.facts["file"]) == ("refused", "model.file_missing", "config.json")


def test_one_worker_takes_a_job_and_a_lost_one_waits_again(olga: User) -> None:
    job = model_jobs.ask_to_register(olga, "x", "causal-lm")
    assert model_jobs.to_send() == []  # a message was sent just now
    assert model_jobs.take(job.pk) == job and model_jobs.take(job.pk) is None
    model_jobs.note_progress(job, {"stage": "tensors", "done": 1, "of": 2})
    assert model_jobs.to_send() == []
    ModelJob.objects.update(moved_at=timezone.now() - model_jobs.LOST_AFTER - timedelta(seconds=1))
    assert model_jobs.to_send() == [job.pk] and model_jobs.to_send() == []
    assert model_jobs.take(job.pk) == job
