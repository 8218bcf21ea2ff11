"""The study wizard's steps, in their order, and a draft as it would be with what a form says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, QueryDict
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from contracts.kinds import KINDS
from federation.datasets.models import Dataset
from federation.people.models import User
from federation.studies.labels import groups
from federation.studies.models import BaseModel, Study
from federation.studies.plan import Plan, read
from federation.studies.searched import following
from frontend.forms.wizard.basics import DataForm, MethodForm, ModelForm, PurposeForm, on_offer
from frontend.forms.wizard.step import StepForm
from frontend.forms.wizard.training import TrainingForm
from frontend.forms.wizard.tuning import AdapterForm, SplitForm


@dataclass(frozen=True)
class WizardStep:
    """`form` is None for the review. The template is `studies/steps/<name>.html`."""

    name: str
    title: str | Promise
    lead: str | Promise
    form: type[StepForm] | None


STEPS = (
    WizardStep("purpose", _("Purpose"), _("What the study is for. Nothing runs yet."), PurposeForm),
    WizardStep("model", _("Model"), _("What the hospitals fine-tune together."), ModelForm),
    WizardStep("data", _("Data"), _("Whose data, and how alike they are."), DataForm),
    WizardStep("method", _("Method"), _("Where the work runs, and who can see what."), MethodForm),
    WizardStep("tuning", _("Tuning"), _("How much of the model is trained, and what that costs."), None),
    WizardStep(
        "training", _("Training"), _("How long, by which rules, and what may come out."), TrainingForm
    ),
    WizardStep("review", _("Review"), _("Exactly what the hospitals will be asked to approve."), None),
)
NAMES = [step.name for step in STEPS]
TUNING: dict[str, type[StepForm]] = {"method-1": AdapterForm, "method-2": SplitForm}
"""What a method tunes, as a form."""


def step_named(name: str) -> WizardStep | None:
    """The step of this name."""
    return next((step for step in STEPS if step.name == name), None)


def form_class(step: WizardStep, study: Study | None) -> type[StepForm] | None:
    """The step's form; what is tuned depends on the method."""
    if step.name == "tuning":
        return TUNING.get(study.settings.get("method", "") if study else "", AdapterForm)
    return step.form


def make(step: WizardStep, user: User, study: Study | None, data: QueryDict | None = None) -> StepForm | None:
    """The step's form, bound to `data` where there is some."""
    kind = form_class(step, study)
    return kind(data, user=user, study=study) if kind else None


def datasets_to_begin_with(user: User, task: Any) -> list[Dataset]:
    """What a lead's first draft begins with, and its review shows: all that is on offer, where each hospital
    offers one dataset that the task can use, of one kind, with no labels that look alike."""
    if Study.objects.filter(lead=user).exists():
        return []
    found = [dataset for dataset in on_offer(user) if dataset.kind in KINDS[task]]
    sites, kinds = {dataset.site_id for dataset in found}, {dataset.kind for dataset in found}
    if len(found) < 2 or len(sites) < len(found) or len(kinds) > 1:
        return []
    return [] if task != "causal-lm" and groups(found) else found


@dataclass
class Draft:
    """What `services.update_study` takes."""

    name: str
    purpose: str
    plan: Plan
    datasets: list[Dataset]

    def as_arguments(self) -> dict[str, Any]:
        return {"name": self.name, "purpose": self.purpose, "plan": self.plan, "datasets": self.datasets}


def draft_with(study: Study, form: StepForm | None) -> Draft:
    """The draft with the changes of a valid form.

    Raises: `study.invalid_plan`.
    """
    cleaned = form.cleaned_data if form is not None else {}
    changes = form.changes() if form is not None else {}
    datasets = cleaned.get("datasets")
    layers = _layers({**study.settings, **changes})
    return Draft(
        name=cleaned.get("name", study.name),
        purpose=cleaned.get("purpose", study.purpose),
        plan=read({**study.settings, **following(study.settings, changes, layers), **changes}),
        datasets=list(study.datasets.select_related("site") if datasets is None else datasets),
    )


def _layers(settings: dict[str, Any]) -> int:
    """Of the draft's model; 0 where none is chosen yet, or its shape is not on record."""
    model = BaseModel.objects.filter(source=settings.get("model", ""), task=settings.get("task")).first()
    return (model.config or {}).get("num_hidden_layers", 0) if model else 0


# Input that is not valid yet is kept in the session, so that going back and forth loses nothing.
def _key(study: Study | None, step: WizardStep) -> str:
    return f"draft/{study.pk if study else 'new'}/{step.name}"


def keep(request: HttpRequest, study: Study | None, step: WizardStep) -> None:
    """Remember what was typed although it cannot be saved."""
    request.session[_key(study, step)] = request.POST.urlencode()


def forget(request: HttpRequest, study: Study | None, step: WizardStep) -> None:
    """It was saved."""
    request.session.pop(_key(study, step), None)


def kept(request: HttpRequest, study: Study | None, step: WizardStep) -> QueryDict | None:
    """What was typed at this step and not saved."""
    typed = request.session.get(_key(study, step))
    return QueryDict(typed) if typed else None


def unfinished(request: HttpRequest, study: Study) -> list[WizardStep]:
    """The steps with input that could not be saved."""
    return [step for step in STEPS if _key(study, step) in request.session]
