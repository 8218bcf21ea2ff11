"""The study wizard: one page a step, saved as it goes, with its costs as they would be."""

from __future__ import annotations

from typing import Any

import msgspec
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _

from contracts.refusal import Refusal
from enclave_jobs.runs.costs import advise_cut, costs_of, work_of_plan
from enclave_jobs.runs.differences import differences
from federation.people.models import User
from federation.sites.queries import memory_of
from federation.studies import permissions, services
from federation.studies.freezing import build_manifest
from federation.studies.models import BaseModel, Study, StudyState
from federation.studies.plan import Plan
from federation.studies.plan import read as read_plan
from federation.studies.searched import default_for
from frontend import wizard
from frontend.forms.wizard.basics import METHODS, DataForm, tried
from frontend.forms.wizard.step import StepForm
from frontend.forms.wizard.tuning import GIB, SplitForm
from frontend.manifests import manifest_facts
from frontend.methods import named
from frontend.older import unreadable_plan
from frontend.overlap import overlap
from frontend.sessions import typed
from frontend.views.acting import person

FIRST = wizard.STEPS[0]


@login_required
def new(request: HttpRequest) -> HttpResponse:
    """The first step of a study that does not exist yet. Saving it makes the draft."""
    user = person(request)
    if not permissions.can_create(user):
        raise PermissionDenied
    form = wizard.make(FIRST, user, None, request.POST if request.method == "POST" else None)
    refused = None
    model = BaseModel.objects.first()
    if model is None:
        refused = Refusal("study.no_model")
    elif request.method == "POST" and form is not None and form.is_valid():
        try:
            begun = default_for(model.task, "method-1", "lora")
            plan = Plan(model=model.source, task=_task(model), **begun._asdict())
            fits = msgspec.structs.replace(plan, max_tokens=min(plan.max_tokens, model.max_tokens))
            taken = wizard.datasets_to_begin_with(user, fits.task)
            study = services.create_study(user, **form.cleaned_data, plan=fits, datasets=taken)
        except Refusal as refusal:
            refused = refusal
        else:
            if taken:
                names = ", ".join(sorted(str(dataset.site) for dataset in taken))
                messages.info(request, _("Each hospital offers one dataset; all are chosen: %s.") % names)
            return _onward(study, FIRST, request.POST.get("go", ""))
    return _page(request, None, FIRST, form, refused)


def _task(model: BaseModel) -> Any:
    return model.task


@login_required
def edit(request: HttpRequest, study_id: str) -> HttpResponse:
    """Where to change a draft: its first step."""
    study = _draft(request, study_id)
    if not _open(study):
        return redirect("study", study.pk)
    return redirect("study-step", study.pk, FIRST.name)


@login_required
def step(request: HttpRequest, study_id: str, stage: str) -> HttpResponse:
    """One step of a draft. What is valid is saved whichever way one leaves; what is not is kept as typed."""
    study = _draft(request, study_id)
    here = wizard.step_named(stage)
    if here is None:
        raise Http404
    if not _open(study):
        if request.method == "POST":  # frozen meanwhile, in another tab: what is typed here is shown
            return render(
                request, "frontend/studies/stale.html", {"study": study, "typed": typed(request)}, status=409
            )
        return redirect("study", study.pk)
    if request.method == "POST":
        return _save(request, study, here)
    kept = wizard.kept(request, study, here)
    return _page(request, study, here, wizard.make(here, person(request), study, kept), None)


def _open(study: Study) -> bool:
    """Whether there is a draft to change; one of an older version may say what plans no longer do."""
    return study.state == StudyState.DRAFT and unreadable_plan(study) is None


def _save(request: HttpRequest, study: Study, here: wizard.WizardStep) -> HttpResponse:
    user = person(request)
    form = wizard.make(here, user, study, request.POST)
    onward = _onward(study, here, request.POST.get("go", ""))
    refused = None
    if form is not None and form.is_valid():
        try:
            services.update_study(user, study, **wizard.draft_with(study, form).as_arguments())
            wizard.forget(request, study, here)
            return onward
        except Refusal as refusal:
            refused = refusal
    if form is None:
        return onward
    if request.POST.get("go"):
        # They go elsewhere on purpose: what they typed waits for them here.
        wizard.keep(request, study, here)
        return onward
    return _page(request, study, here, form, refused)


def _onward(study: Study, here: wizard.WizardStep, go: str) -> HttpResponse:
    """The next step, or the one that was asked for by its name; `leave` is the study's page."""
    if go in wizard.NAMES:
        return redirect("study-step", study.pk, go)
    if go == "leave" or here.name == wizard.NAMES[-1]:
        return redirect("study", study.pk)
    return redirect("study-step", study.pk, wizard.NAMES[wizard.NAMES.index(here.name) + 1])


def _page(
    request: HttpRequest,
    study: Study | None,
    here: wizard.WizardStep,
    form: StepForm | None,
    refused: Refusal | None,
) -> HttpResponse:
    place = wizard.NAMES.index(here.name)
    unfinished = [s.name for s in wizard.unfinished(request, study)] if study else []
    context: dict[str, Any] = {
        "study": study,
        "form": form,
        "refused": refused,
        "here": here,
        "number": place + 1,
        "steps": [
            {"step": s, "here": s == here, "number": n, "unfinished": s.name in unfinished}
            for n, s in enumerate(wizard.STEPS, 1)
        ],
        "back": wizard.NAMES[place - 1] if place else None,
        "unfinished": [s for s in wizard.STEPS if s.name in unfinished],
    }
    if study is not None:
        context |= _shown(person(request), study, here, form)
    status = 422 if request.method == "POST" else 200
    return render(request, f"frontend/studies/steps/{here.name}.html", context, status=status)


def _shown(user: User, study: Study, here: wizard.WizardStep, form: StepForm | None) -> dict[str, Any]:
    """What a step shows beside its form."""
    match here.name:
        case "data":
            return _chosen_overlap(form)
        case "method":
            return {"methods": _methods(study)}
        case "tuning":
            split = isinstance(form, SplitForm)
            return {**_costs(study, form), "split": split, "smallest": _smallest(study) if split else None}
        case "training":
            return _costs(study, form)
        case "review":
            return {**_costs(study, None), **_preview(user, study)}
    return {}


def _chosen_overlap(form: StepForm | None) -> dict[str, Any]:
    assert isinstance(form, DataForm)
    chosen = [dataset for dataset in form.offered if dataset.pk in form.chosen]
    return {"overlap": overlap(chosen) if chosen and form.sorts else None, "data": form}


def _methods(study: Study) -> list[dict[str, Any]]:
    """The costs of each method with this draft's model, data and other settings."""
    datasets = list(study.datasets.all())
    model = BaseModel.objects.filter(source=study.settings["model"], task=study.settings["task"]).first()
    found: list[dict[str, Any]] = []
    for name, (method, placement) in METHODS.items():
        verdicts = tried(model, name)
        if not any(verdict.proven for verdict in verdicts.values()):
            verdict = next(iter(verdicts.values()))
            found.append({"name": name, "refused": Refusal(verdict.code, **verdict.facts), "unproven": True})
            continue
        plan = read_plan({**study.settings, "method": method, "placement": placement})
        try:
            found.append({"name": name, "costs": costs_of(plan, datasets)})
        except Refusal as refusal:
            found.append({"name": name, "refused": refusal})
    return found


def _costs(study: Study, form: StepForm | None) -> dict[str, Any]:
    """The draft's costs with a form's changes; with a form that is not valid, those of what is saved."""
    valid = form if form is not None and form.is_bound and form.is_valid() else None
    try:
        draft = wizard.draft_with(study, valid)
        costs = costs_of(draft.plan, draft.datasets)
        return {"costs": costs, "draft": draft.plan, "method": named(draft.plan.method)}
    except Refusal as refusal:
        return {"costs": None, "costs_refused": refusal}


def _smallest(study: Study) -> str | None:
    """The least memory that an agent of the chosen hospitals reported, in GiB; None unless all did."""
    found = [memory_of(dataset.site) for dataset in study.datasets.select_related("site")]
    known = [memory for memory in found if memory is not None]
    return f"{min(known) / GIB:.1f}" if known and len(known) == len(found) else None


def _preview(user: User, study: Study) -> dict[str, Any]:
    try:
        manifest = build_manifest(study)
    except Refusal as refusal:
        return {"preview_refused": refusal}
    found = differences(user, manifest)
    return {"preview": manifest_facts(manifest), "manifest": manifest, "differences": found}


@login_required
def costs(request: HttpRequest, study_id: str, stage: str) -> HttpResponse:
    """The costs as they would be with what the step's form shows right now. Saves nothing."""
    study, form = _live(request, study_id, stage)
    context = {"study": study, "form": form, **_costs(study, form)}
    return render(request, "frontend/studies/costs.html", context)


@login_required
def labels(request: HttpRequest, study_id: str) -> HttpResponse:
    """The chart of label overlap for the datasets that are ticked right now. Saves nothing."""
    _study, form = _live(request, study_id, "data")
    return render(request, "frontend/studies/overlap.html", _chosen_overlap(form))


@login_required
def advice(request: HttpRequest, study_id: str) -> HttpResponse:
    """Where to cut, for the memories that the lead gives (GiB). Saves nothing."""
    study, form = _live(request, study_id, "tuning")
    context: dict[str, Any] = {"tee": request.GET.get("tee"), "site": request.GET.get("site")}
    memories = [_bytes(request.GET.get(name, "")) for name in ("tee", "site")]
    if None in memories:
        return render(request, "frontend/studies/advice.html", {**context, "missing": True})
    try:
        draft = wizard.draft_with(study, form if form.is_valid() else None)
        model = BaseModel.objects.get(source=draft.plan.model, task=draft.plan.task)
        found = advise_cut(
            work_of_plan(draft.plan, draft.datasets), model, memories[0] or 0, memories[1] or 0
        )
        context |= {"advice": found}
    except Refusal as refusal:
        context |= {"refused": refusal}
    return render(request, "frontend/studies/advice.html", context)


def _bytes(gib: str) -> int | None:
    try:
        value = float(gib)
    except ValueError:
        return None
    return round(value * GIB) if 0 < value < 1e6 else None


def _live(request: HttpRequest, study_id: str, stage: str) -> tuple[Study, StepForm]:
    study, here = _draft(request, study_id), wizard.step_named(stage)
    if here is None:
        raise Http404
    form = wizard.make(here, person(request), study, request.GET or None)
    if form is None:
        raise Http404
    return study, form


def _draft(request: HttpRequest, study_id: str) -> Study:
    user = person(request)
    study = get_object_or_404(permissions.visible_to(user).select_related("lead"), pk=study_id)
    if not permissions.can_edit(user, study):
        raise PermissionDenied
    return study
