"""The lead's form for a study: a page of choices that becomes the plan."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django import forms
from django.conf import settings
from django.forms.boundfield import BoundField
from django.utils.translation import gettext_lazy as _

from federation.datasets.models import Dataset
from federation.studies.models import BaseModel
from federation.studies.plan import Plan

RELEASES = (
    ("nothing", _("nothing: the result stays sealed")),
    ("serve-only", _("serve only: the enclave answers, the parameters stay inside")),
    ("sealed-to-sites", _("sealed to the hospitals")),
    ("export", _("export as a PEFT adapter")),
)


class StudyForm(forms.Form):
    """Field names are those of `studies.plan.Plan`, beside name, purpose and datasets."""

    name = forms.CharField(label=_("Name"), max_length=200)
    purpose = forms.CharField(
        label=_("Purpose"),
        required=False,
        max_length=4000,
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text=_("What question this answers, and for whom. The hospitals read it before they approve."),
    )
    datasets = forms.ModelMultipleChoiceField(label=_("Datasets"), queryset=Dataset.objects.none())
    model = forms.ChoiceField(label=_("Base model"))
    rank = forms.IntegerField(
        label=_("LoRA rank"),
        min_value=1,
        max_value=512,
        help_text=_("More can learn more, and costs more to send."),
    )
    alpha = forms.IntegerField(label=_("LoRA alpha"), min_value=1, max_value=1024)
    max_tokens = forms.IntegerField(
        label=_("Tokens per text"), min_value=8, max_value=8192, help_text=_("Longer texts are cut.")
    )
    precision = forms.ChoiceField(
        label=_("Precision"),
        choices=(("fp32", _("fp32: reference")), ("bf16", _("bf16: faster on new CPUs"))),
    )
    rounds = forms.IntegerField(label=_("Rounds"), min_value=1, max_value=1000)
    local_epochs = forms.IntegerField(label=_("Epochs in a round"), min_value=1, max_value=100)
    batch_size = forms.IntegerField(label=_("Batch size"), min_value=1, max_value=1024)
    learning_rate = forms.FloatField(label=_("Learning rate"), min_value=1e-7, max_value=1)
    seed = forms.IntegerField(
        label=_("Seed"), min_value=0, max_value=2**53 - 1, help_text=_("The same seed gives the same run.")
    )
    quorum = forms.IntegerField(
        label=_("Quorum"),
        min_value=1,
        required=False,
        help_text=_("Fewest hospitals in a round. Empty: all of them."),
    )
    deadline_seconds = forms.IntegerField(
        label=_("A round waits for (seconds)"),
        min_value=10,
        max_value=7 * 24 * 3600,
        help_text=_("After that it goes on with those who came, if they are a quorum."),
    )
    release = forms.ChoiceField(label=_("What may come out"), choices=RELEASES)
    runtime = forms.ChoiceField(label=_("Runtime of the enclaves"))

    MODEL_FIELDS = ("model", "rank", "alpha", "max_tokens", "precision", "runtime")
    TRAINING_FIELDS = ("rounds", "local_epochs", "batch_size", "learning_rate", "seed")
    RULE_FIELDS = ("quorum", "deadline_seconds", "release")

    def __init__(self, *args: Any, datasets: Iterable[Dataset], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dataset_choices = list(datasets)
        self._field("datasets").queryset = Dataset.objects.filter(pk__in=[d.pk for d in self.dataset_choices])
        models = BaseModel.objects.filter(task="sequence-classification") | BaseModel.objects.filter(
            task="causal-lm"
        )
        self._field("model").choices = [(f"{m.source}|{m.task}", f"{m.name} ({m.task})") for m in models]
        self._field("runtime").choices = [(name, name) for name in settings.ENCLAVE_RUNTIMES]
        for name, field in self.fields.items():
            default = getattr(_DEFAULTS, name, None)
            if field.initial is None and default is not None:
                field.initial = default

    def _field(self, name: str) -> Any:
        return self.fields[name]

    def _bound(self, names: Iterable[str]) -> list[BoundField]:
        return [self[name] for name in names]

    @property
    def model_fields(self) -> list[BoundField]:
        return self._bound(self.MODEL_FIELDS)

    @property
    def training_fields(self) -> list[BoundField]:
        return self._bound(self.TRAINING_FIELDS)

    @property
    def rule_fields(self) -> list[BoundField]:
        return self._bound(self.RULE_FIELDS)

    @property
    def chosen_datasets(self) -> list[str]:
        """Ids of the ticked boxes: as typed, or as stored."""
        chosen = self["datasets"].value() or []
        return [str(getattr(value, "pk", value)) for value in chosen]

    def plan(self) -> dict[str, Any]:
        """The cleaned choices as `Study.settings` holds them."""
        fields = (*self.MODEL_FIELDS, *self.TRAINING_FIELDS, *self.RULE_FIELDS)
        plan = {name: self.cleaned_data[name] for name in fields}
        plan["model"], plan["task"] = plan["model"].split("|", 1)
        return plan


_DEFAULTS = Plan(model="none")


def initial_of(name: str, purpose: str, plan: dict[str, Any], datasets: list[str]) -> dict[str, Any]:
    """What the form shows for a study that exists."""
    shown = {**plan, "name": name, "purpose": purpose, "datasets": datasets}
    shown["model"] = f"{plan.get('model')}|{plan.get('task', _DEFAULTS.task)}"
    return shown
