"""For tests that have no model: a proof as a small BERT's would be, and a trial that was passed."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from contracts.manifest import Manifest
from contracts.model_proof import WAYS, ModelProof, Verdict
from contracts.refusal import Refusal


def made_proof(**changes: Any) -> ModelProof:
    """Everything is proven; LoRA goes on queries and values."""
    fields: dict[str, Any] = {
        "version": 1,
        "task": "sequence-classification",
        "files": {"config.json": "c" * 64},
        "model_type": "bert",
        "parameters": 100_000,
        "bytes": 400_000,
        "layers": 2,
        "positions": 512,
        "vocabulary": 100,
        "tokens": 100,
        "special": {"pad_token": "[PAD]"},
        "template": "none",
        "targets": ("query", "value"),
        "new": ("classifier.weight", "classifier.bias"),
        "unused": (),
        "whole": True,
        "shape": {},
        "ways": {way: Verdict() for way in WAYS},
        "prepared": "d" * 64,
    }
    return ModelProof(**{**fields, **changes})


def freeze(by: Any, study: Any) -> Manifest:
    """What the job does once the model was tried, without a trial."""
    from federation.studies import services
    from federation.studies.freezing import build_manifest
    from federation.studies.models import ModelJob
    from federation.studies.tried import subject_of

    with suppress(Refusal):
        subject = subject_of(build_manifest(study))
        ModelJob.objects.create(kind="freeze", state="done", by=by, study=study, subject=subject)
    return services.freeze(by, study)
