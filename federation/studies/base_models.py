"""The registered base model that a plan names."""

from __future__ import annotations

from contracts.refusal import Refusal
from federation.studies.models import BaseModel
from federation.studies.plan import Plan


def base_model_of(plan: Plan) -> BaseModel:
    """The registered model that the plan names.

    Raises: `study.unknown_model`.
    """
    model = BaseModel.objects.filter(source=plan.model, task=plan.task).first()
    if model is None:
        raise Refusal("study.unknown_model", source=plan.model, task=plan.task)
    return model
