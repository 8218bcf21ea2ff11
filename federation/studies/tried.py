"""Whether a study's model was seen to be tuned exactly as the study will.

It is looked at in enclave_jobs/base_models/proving.py.
"""

from __future__ import annotations

import msgspec

from contracts.canonical import digest
from contracts.manifest import Manifest
from contracts.refusal import Refusal
from federation.studies.models import ModelJobKind, ModelJobState, Study


def subject_of(manifest: Manifest) -> str:
    """What of a manifest is tried: the model's files, and all that decides how they are tuned."""
    cut = None if manifest.split is None else manifest.split.cut
    said = {
        "model": msgspec.to_builtins(manifest.model),
        "method": manifest.method,
        "placement": manifest.placement,
        "adapter": msgspec.to_builtins(manifest.adapter),
        "cut": cut,
    }
    return digest(said)


def require_tried(study: Study, manifest: Manifest) -> None:
    """Raises: `study.untried` for a manifest whose model was not seen to be tuned exactly so."""
    done = study.model_jobs.filter(kind=ModelJobKind.FREEZE, state=ModelJobState.DONE)
    if not done.filter(subject=subject_of(manifest)).exists():
        raise Refusal("study.untried")
