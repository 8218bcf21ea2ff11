"""Base models: what is registered, what was seen of each, and, for operators, another one."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _l

from contracts.architecture.table import ARCHITECTURES
from contracts.canonical import digest
from contracts.model_proof import WAYS, ModelProof, read_proof
from contracts.refusal import Refusal
from enclave_jobs.base_models import model_jobs
from enclave_jobs.runs.permissions import runs_visible_to
from federation.studies import permissions
from federation.studies.models import BaseModel, ModelJob, ModelJobKind
from frontend.forms.models import RegisterForm
from frontend.model_progress import ModelProgress, progress_of
from frontend.views.acting import form_page, person
from frontend.views.runs import with_figures

SHOWN = 10
IN_WORDS = {
    "all_in_tee/lora": _l("Method 1, all of it in the TEE, with LoRA"),
    "all_in_tee/prefix": _l("Method 1, all of it in the TEE, with P-Tuning v2"),
    "masked/lora": _l("Method 1, linears masked on an accelerator, with LoRA"),
    "masked/prefix": _l("Method 1, linears masked on an accelerator, with P-Tuning v2"),
    "split/spf": _l("Method 2, split, with selected rows"),
}


def _require_sight(request: HttpRequest) -> None:
    if not permissions.can_see_models(person(request)):
        raise PermissionDenied


@login_required
def model_list(request: HttpRequest) -> HttpResponse:
    """All models that are registered, and the registrations of late."""
    _require_sight(request)
    return render(
        request,
        "frontend/models/list.html",
        {
            "models": [(model, _proof(model)) for model in BaseModel.objects.all()],
            "can_register": permissions.can_register_models(person(request)),
            **_jobs(),
        },
    )


@login_required
def jobs(request: HttpRequest) -> HttpResponse:
    """The registrations, while one is under way; the page is loaded again when none is any more."""
    _require_sight(request)
    found = _jobs()
    response = render(request, "frontend/models/jobs.html", found)
    if not found["under_way"]:
        response.headers["HX-Refresh"] = "true"
    return response


@login_required
def detail(request: HttpRequest, model_id: int) -> HttpResponse:
    """What was seen of one model, what of its family runs where, and the runs that tuned it."""
    _require_sight(request)
    model = get_object_or_404(BaseModel, pk=model_id)
    used = runs_visible_to(person(request)).filter(
        study__settings__model=model.source, study__settings__task=model.task
    )
    proof = _proof(model)
    family = ARCHITECTURES.get(proof.model_type) if proof else None
    context = {
        "model": model,
        "proof": proof,
        "ways": [(way, IN_WORDS[way], model.verdict(way)) for way in WAYS],
        "family": family,
        "inside": sorted(family.inside) if family else [],
        "tables": sorted(family.tables) if family else [],
        "files_hash": digest(model.files) if model.files else "",
        "used": used.count(),
        "runs": with_figures(list(used.select_related("study")[:SHOWN])),
    }
    return render(request, "frontend/models/detail.html", context)


@login_required
def new(request: HttpRequest) -> HttpResponse:
    """Have a model registered: a worker loads it once."""
    user = person(request)
    if not permissions.can_register_models(user):
        raise PermissionDenied

    def ask(data: dict[str, Any]) -> Any:
        model_jobs.ask_to_register(user, data["source"], data["task"], data["name"])
        return lambda: redirect("models")

    return form_page(
        request,
        RegisterForm,
        ask,
        title=_("Register a base model"),
        intro=_("A worker fetches the model and loads it once, in a process with bounds. It is offered for "
                "what it was seen to do."),
        submit=_("Register"),
        back=reverse("models"),
    )  # fmt: skip


def _jobs() -> dict[str, Any]:
    asked = ModelJob.objects.filter(kind=ModelJobKind.REGISTER).select_related("by")[:SHOWN]
    rows: list[tuple[ModelJob, ModelProgress]] = [(job, progress_of(job)) for job in asked]
    return {"jobs": rows, "under_way": any(job.state in model_jobs.OPEN for job, _ in rows)}


def _proof(model: BaseModel) -> ModelProof | None:
    try:
        return read_proof(model.proof)
    except Refusal:
        return None
