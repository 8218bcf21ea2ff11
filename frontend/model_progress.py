"""How far a job on a base model is, in words."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext as _

from federation.studies.models import ModelJob, ModelJobState


@dataclass(frozen=True)
class ModelProgress:
    """`percent` is None where nobody knows."""

    text: str
    percent: int | None = None


def progress_of(job: ModelJob) -> ModelProgress:
    """What the page says of a job that is under way."""
    if job.state == ModelJobState.WAITING:
        return ModelProgress(_("waits for a worker"))
    progress = job.progress if isinstance(job.progress, dict) else {}
    of, done = progress.get("of") or 0, progress.get("done") or 0
    percent = min(100, round(100 * done / of)) if of else None
    match progress.get("stage"):
        case "files":
            return ModelProgress(_("looks at the files"))
        case "tensors":
            return ModelProgress(_("looks at every tensor"), percent)
        case "model":
            return ModelProgress(_("builds the model"))
        case "passes":
            return ModelProgress(_("makes a pass: %(way)s") % {"way": progress.get("way", "")}, percent)
        case "preparing":
            return ModelProgress(_("prepares the model for masked runs"), percent)
    return ModelProgress(_("fetches the model"))
