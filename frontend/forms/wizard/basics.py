"""The first steps: what for, which model, whose data, which method."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from django import forms
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from contracts.kinds import KINDS
from contracts.model_proof import Verdict, way_of
from error_catalogue import explain
from federation.datasets import permissions as dataset_permissions
from federation.datasets.models import Dataset
from federation.datasets.queries import is_public
from federation.people.models import User
from federation.sites.models import SiteState
from federation.studies.labels import SimilarSpellings, groups
from federation.studies.models import BaseModel, Study
from frontend.forms.wizard.step import StepForm, number
from frontend.methods import named

METHODS = {
    "all_in_tee": ("method-1", "all_in_tee"),
    "masked": ("method-1", "masked"),
    "split": ("method-2", "all_in_tee"),
    "plaintext": ("method-1", "plaintext"),
}
"""What the chooser offers -> the plan's method and placement."""


def tried(model: BaseModel | None, choice: str) -> dict[str, Verdict]:
    """What was seen of the model in the ways of a choice, by adapter."""
    method, placement = METHODS[choice]
    unknown = Verdict("study.no_model")
    return {
        a: model.verdict(way_of(method, placement, a)) if model else unknown for a in named(method).adapters
    }


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
        choices=(
            ("fp32", _("fp32: reference")),
            ("bf16", _("bf16: fast only on CPUs with AVX-512 BF16 or AMX")),
        ),
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


DIFFERENT = "different"


def on_offer(user: User) -> list[Dataset]:
    """What this person's study could name: datasets that are published, of hospitals that are active."""
    visible = dataset_permissions.visible_to(user).select_related("site")
    found = visible.filter(withdrawn_at=None, site__state=SiteState.ACTIVE)
    return list(found.order_by("site__name", "name"))


class DataForm(StepForm):
    """Besides the datasets it decides about labels that look alike: for each group one choice, called
    `alike-KEY`, and one box for all, whose value is of these very groups. Datasets of a kind that the model's
    task cannot use are named, not offered."""

    datasets = forms.ModelMultipleChoiceField(
        label=_("Datasets, one from each hospital"),
        queryset=Dataset.objects.none(),
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": _("Choose at least one dataset.")},
    )

    def prepare(self) -> None:
        published = on_offer(self.user)
        usable = KINDS[self.plan.get("task", "sequence-classification")]
        self.offered = [dataset for dataset in published if dataset.kind in usable]
        self.of_other_kinds = [dataset for dataset in published if dataset.kind not in usable]
        chosen = Dataset.objects.filter(pk__in=[dataset.pk for dataset in self.offered])
        self.fields["datasets"].queryset = chosen.select_related("site")  # type: ignore[attr-defined]

    def stored(self, study: Study | None) -> dict[str, Any]:
        return {"datasets": list(study.datasets.values_list("pk", flat=True))} if study else {}

    @property
    def chosen(self) -> set[str]:
        """Ids of the ticked boxes: as sent, or as stored."""
        return {str(getattr(value, "pk", value)) for value in self["datasets"].value() or []}

    @property
    def sorts(self) -> bool:
        """Whether the study's model sorts texts into classes: then labels matter."""
        return self.plan.get("task") != "causal-lm"

    @cached_property
    def alike(self) -> list[dict[str, Any]]:
        """The groups of look-alikes among the ticked datasets, each with what is chosen for it: a spelling's
        key, DIFFERENT, or "" where nothing is. The commonest spelling is proposed, but for a group of which
        one hospital has several."""
        if not self.sorts:
            return []
        datasets = [dataset for dataset in self.offered if dataset.pk in self.chosen]
        return [
            {
                "group": group,
                "name": f"alike-{group.key}",
                "chosen": self.data.get(f"alike-{group.key}", self._before(group)),
            }
            for group in groups(datasets)
        ]

    def _before(self, group: SimilarSpellings) -> str:
        same, different = self.plan.get("same_labels", {}), self.plan.get("different_labels", [])
        left = [spelling for spelling in group.spellings if spelling.label not in same]
        if len(left) == 1:
            return left[0].key
        if all(label in different for label in group.labels):
            return DIFFERENT
        return "" if group.within else group.spellings[0].key

    @property
    def alike_value(self) -> str:
        """What the box says yes to."""
        labels = [label for entry in self.alike for label in entry["group"].labels]
        return hashlib.sha256(json.dumps(labels).encode()).hexdigest()[:12]

    @property
    def alike_confirmed(self) -> bool:
        """As sent; of a stored draft, whether it decides all of them."""
        if self.is_bound:
            return self.data.get("alike_confirmed") == self.alike_value
        decided = {*self.plan.get("same_labels", {}), *self.plan.get("different_labels", [])}
        return all(len(set(entry["group"].labels) - decided) <= 1 for entry in self.alike)

    def clean(self) -> dict[str, Any]:
        """Every group is decided, and a person has said so."""
        cleaned = super().clean() or {}
        for entry in self.alike:
            if entry["chosen"] not in (DIFFERENT, *(one.key for one in entry["group"].spellings)):
                self.add_error(None, _("Say of each group of labels that look alike if it is one class."))
                return cleaned
        if self.alike and not self.alike_confirmed:
            self.add_error(None, _("Some labels look alike. Look at them below, and confirm what they mean."))
        return cleaned

    def changes(self) -> dict[str, Any]:
        same: dict[str, str] = {}
        different: list[str] = []
        merged = False
        for entry in self.alike:
            group, chosen = entry["group"], entry["chosen"]
            if chosen == DIFFERENT:
                different += group.labels
                continue
            name = next(spelling.label for spelling in group.spellings if spelling.key == chosen)
            same |= {label: name for label in group.labels if label != name}
            merged = merged or bool(group.within)
        return {"same_labels": same, "different_labels": different, "merge_own_labels": merged}

    def clean_datasets(self) -> list[Dataset]:
        datasets = list(self.cleaned_data["datasets"])
        names = [dataset.site.name for dataset in datasets]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise forms.ValidationError(_("%s gives two datasets: choose one.") % ", ".join(twice))
        if self.sorts and len({dataset.kind for dataset in datasets}) > 1:
            raise forms.ValidationError(
                _("Choose datasets of one kind: single texts, pairs, or texts with any number of labels.")
            )
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
        if placement == "plaintext":
            changes["front"] = 0
        there = offered(self.base_model, self._chosen)
        return changes | named(method).chosen(self.plan.get("adapter", "lora"), there)

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
