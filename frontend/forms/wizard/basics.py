"""The first steps: what for, which model, whose data, which method."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from contracts.model_proof import Verdict, way_of
from error_catalogue import explain
from federation.datasets import permissions as dataset_permissions
from federation.datasets.models import Dataset
from federation.datasets.queries import is_public
from federation.sites.models import SiteState
from federation.studies.models import BaseModel, Study
from frontend.forms.wizard.step import StepForm, number

METHODS = {
    "all_in_tee": ("method-1", "all_in_tee"),
    "masked": ("method-1", "masked"),
    "split": ("method-2", "all_in_tee"),
    "plaintext": ("method-1", "plaintext"),
}
"""What the chooser offers -> the plan's method and placement."""
ADAPTERS = ("lora", "prefix")


def tried(model: BaseModel | None, choice: str) -> dict[str, Verdict]:
    """What was seen of the model in the ways of a choice: by adapter, of which Method 2 has one."""
    method, placement = METHODS[choice]
    adapters = ADAPTERS if method == "method-1" else ("spf",)
    unknown = Verdict("study.no_model")
    return {a: model.verdict(way_of(method, placement, a)) if model else unknown for a in adapters}


def offered(model: BaseModel | None, choice: str) -> list[str]:
    """The adapters with which the model was seen to be tuned in the ways of a choice."""
    return [adapter for adapter, verdict in tried(model, choice).items() if verdict.proven]


class PurposeForm(StepForm):
    name = forms.CharField(label=_("Name"), max_length=200)
    purpose = forms.CharField(
        label=_("Purpose"),
        required=False,
        max_length=4000,
        widget=forms.Textarea(attrs={"rows": 5}),
        help_text=_("What question this answers, and for whom. The hospitals read it before they approve."),
    )

    def stored(self, study: Study | None) -> dict[str, Any]:
        return {"name": study.name, "purpose": study.purpose} if study else {}


class ModelForm(StepForm):
    model = forms.ChoiceField(label=_("Base model"), widget=forms.RadioSelect)
    max_tokens = number(_("Tokens per text"), 8, 8192, _("Longer texts are cut. Memory grows with it."))
    precision = forms.ChoiceField(
        label=_("Precision"),
        choices=(("fp32", _("fp32: reference")), ("bf16", _("bf16: faster on new CPUs"))),
    )

    def prepare(self) -> None:
        registered = list(BaseModel.objects.all())
        self.models = [model for model in registered if any(offered(model, choice) for choice in METHODS)]
        self.unproven = [model for model in registered if model not in self.models]
        choices = [(f"{model.source}|{model.task}", model.name) for model in self.models]
        self.fields["model"].choices = choices  # type: ignore[attr-defined]

    def stored(self, study: Study | None) -> dict[str, Any]:
        stored = super().stored(study)
        return {**stored, "model": f"{stored.get('model')}|{stored.get('task')}"}

    def changes(self) -> dict[str, Any]:
        changes = super().changes()
        changes["model"], changes["task"] = changes["model"].rsplit("|", 1)
        if changes["model"] != self.plan.get("model"):
            changes["targets"] = []  # they are the names of another model's layers
        return changes

    def clean(self) -> dict[str, Any]:
        """The model must read as many tokens as are asked for."""
        cleaned = super().clean() or {}
        source, _bar, task = str(cleaned.get("model", "")).rpartition("|")
        chosen = next((m for m in self.models if (m.source, m.task) == (source, task)), None)
        if chosen and (cleaned.get("max_tokens") or 0) > chosen.max_tokens:
            self.add_error("max_tokens", _("This model reads at most %d tokens.") % chosen.max_tokens)
        return cleaned


class DataForm(StepForm):
    datasets = forms.ModelMultipleChoiceField(
        label=_("Datasets, one from each hospital"),
        queryset=Dataset.objects.none(),
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": _("Choose at least one dataset.")},
    )

    def prepare(self) -> None:
        self.offered = list(
            dataset_permissions.visible_to(self.user)
            .filter(withdrawn_at=None, site__state=SiteState.ACTIVE)
            .order_by("site__name", "name")
        )
        chosen = Dataset.objects.filter(pk__in=[dataset.pk for dataset in self.offered])
        self.fields["datasets"].queryset = chosen.select_related("site")  # type: ignore[attr-defined]

    def stored(self, study: Study | None) -> dict[str, Any]:
        return {"datasets": list(study.datasets.values_list("pk", flat=True))} if study else {}

    @property
    def chosen(self) -> set[str]:
        """Ids of the ticked boxes: as sent, or as stored."""
        return {str(getattr(value, "pk", value)) for value in self["datasets"].value() or []}

    def clean_datasets(self) -> list[Dataset]:
        datasets = list(self.cleaned_data["datasets"])
        names = [dataset.site.name for dataset in datasets]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise forms.ValidationError(_("%s gives two datasets: choose one.") % ", ".join(twice))
        return datasets


class MethodForm(StepForm):
    choice = forms.ChoiceField(
        label=_("Method"),
        widget=forms.RadioSelect,
        choices=[(name, name) for name in METHODS],
    )

    def stored(self, study: Study | None) -> dict[str, Any]:
        plan = study.settings if study else {}
        pair = (plan.get("method", "method-1"), plan.get("placement", "all_in_tee"))
        return {"choice": next((name for name, found in METHODS.items() if found == pair), "all_in_tee")}

    def changes(self) -> dict[str, Any]:
        method, placement = METHODS[self.cleaned_data["choice"]]
        changes: dict[str, Any] = {"method": method, "placement": placement}
        if method == "method-2":
            # One tail sees all features: there are no updates to average, to clip or to hide in noise.
            changes |= {"rule": "fedavg", "clip": None, "max_samples": None, "privacy": "none"}
        elif self.plan.get("adapter", "lora") not in (there := offered(self.base_model, self._chosen)):
            changes["adapter"] = there[0]
        return changes

    @property
    def _chosen(self) -> str:
        return str(self.cleaned_data["choice"])

    def clean_choice(self) -> str:
        choice: str = self.cleaned_data["choice"]
        if not offered(self.base_model, choice):
            verdict = next(iter(tried(self.base_model, choice).values()))
            raise forms.ValidationError(explain(verdict.code, verdict.facts).message)
        if choice == "plaintext" and self.study and not all(map(is_public, self.study.datasets.all())):
            raise forms.ValidationError(_("The plaintext baseline is for datasets that are declared public."))
        return choice
