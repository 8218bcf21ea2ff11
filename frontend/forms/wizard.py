"""The forms of the study wizard, one a step. Field names are those of `studies.plan.Plan`, beside name,
purpose and datasets; a new field of the plan is a new line here."""

from __future__ import annotations

import re
from typing import Any, ClassVar, get_args

from django import forms
from django.conf import settings
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from enclave.attest.policy import TcbStatus
from federation.datasets import permissions as dataset_permissions
from federation.datasets.models import Dataset
from federation.datasets.queries import is_public
from federation.people.models import User
from federation.sites.models import SiteState
from federation.studies.costs import tunable
from federation.studies.models import BaseModel, Study
from federation.studies.plan import Plan
from frontend.words import WORDS

RELEASES = [(name, WORDS[name]) for name in ("nothing", "serve-only", "sealed-to-sites", "export")]
METHODS = {
    "all_in_tee": ("method-1", "all_in_tee"),
    "masked": ("method-1", "masked"),
    "split": ("method-2", "all_in_tee"),
    "plaintext": ("method-1", "plaintext"),
}
"""What the chooser offers -> the plan's method and placement."""
GIB = 1 << 30


class Slider(forms.NumberInput):
    """A range with its value beside it; arrow keys move it by one step."""

    input_type = "range"
    template_name = "frontend/widgets/slider.html"

    def __init__(self, unit: Any = "", **attrs: Any) -> None:
        super().__init__(attrs=attrs)
        self.unit = unit

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        context = super().get_context(name, value, attrs)
        context["widget"]["unit"] = self.unit
        return context


def _ratio(label: Any, help_text: Any) -> forms.FloatField:
    return forms.FloatField(
        label=label,
        help_text=help_text,
        min_value=0,
        max_value=100,
        widget=Slider(unit="%", min=0, max=100, step=12.5),
    )


def _number(label: Any, least: int, most: int, help_text: Any = "", **more: Any) -> forms.IntegerField:
    return forms.IntegerField(label=label, min_value=least, max_value=most, help_text=help_text, **more)


class StepForm(forms.Form):
    """A step of the wizard. `changes` is what it changes in the plan."""

    use_required_attribute = False
    study: Study | None

    def __init__(self, *args: Any, user: User, study: Study | None, **kwargs: Any) -> None:
        self.user, self.study = user, study
        kwargs.setdefault("initial", self.stored(study))
        super().__init__(*args, **kwargs)
        self.prepare()
        for name, field in self.fields.items():
            if self.is_bound and name in self.errors:
                field.widget.attrs["aria-invalid"] = "true"

    def prepare(self) -> None:
        """Fill in choices."""

    def stored(self, study: Study | None) -> dict[str, Any]:
        """What the form shows of a draft: its plan's fields."""
        return dict(study.settings) if study else {}

    def changes(self) -> dict[str, Any]:
        """The cleaned fields that the plan has."""
        return {n: v for n, v in self.cleaned_data.items() if n in Plan.__struct_fields__ and v != ""}

    @property
    def plan(self) -> dict[str, Any]:
        """The draft's plan as it is stored."""
        return self.study.settings if self.study else {}

    @cached_property
    def base_model(self) -> BaseModel | None:
        """The draft's base model, if it is registered."""
        return BaseModel.objects.filter(source=self.plan.get("model"), task=self.plan.get("task")).first()


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
    max_tokens = _number(_("Tokens per text"), 8, 8192, _("Longer texts are cut. Memory grows with it."))
    precision = forms.ChoiceField(
        label=_("Precision"),
        choices=(("fp32", _("fp32: reference")), ("bf16", _("bf16: faster on new CPUs"))),
    )

    def prepare(self) -> None:
        self.models = list(BaseModel.objects.all())
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
        return changes

    def clean_choice(self) -> str:
        choice: str = self.cleaned_data["choice"]
        if choice == "plaintext" and self.study and not all(map(is_public, self.study.datasets.all())):
            raise forms.ValidationError(_("The plaintext baseline is for datasets that are declared public."))
        return choice


class AdapterForm(StepForm):
    """Method 1: what is tuned, and, where masked, how the accelerator is checked."""

    adapter = forms.ChoiceField(
        label=_("What is tuned"),
        widget=forms.RadioSelect,
        choices=(
            ("lora", _("LoRA: two thin matrices beside each chosen layer")),
            ("prefix", _("P-Tuning v2: trained positions before each layer")),
        ),
    )
    rank = _number(
        _("LoRA rank"), 1, 512, _("More can learn more, and costs more to send."),
        widget=Slider(min=1, max=64, step=1),
    )  # fmt: skip
    alpha = _number(_("LoRA alpha"), 1, 1024, _("Usually twice the rank."))
    targets = forms.MultipleChoiceField(
        label=_("LoRA is put on, in every layer"), required=False, widget=forms.CheckboxSelectMultiple,
        help_text=_("None ticked: those that are usual for this model."),
    )  # fmt: skip
    prefix_length = _number(
        _("Prefix length"), 1, 1024, _("These positions are taken from the text's."),
        widget=Slider(min=1, max=128, step=1),
    )  # fmt: skip
    repetitions = _number(
        _("Checks of each product"), 1, 8,
        _("Secret vectors that test what the accelerator answers. One finds a fault all but once in 2³¹."),
    )  # fmt: skip
    vault_bytes = forms.FloatField(
        label=_("Room for pads at a hospital (GiB)"), min_value=0, max_value=16384,
        help_text=_("More room, more work done ahead of time."),
    )  # fmt: skip

    MASKED: ClassVar = ("repetitions", "vault_bytes")

    def prepare(self) -> None:
        if self.plan.get("placement") != "masked":
            for name in self.MASKED:
                del self.fields[name]
        self.fields["targets"].choices = _targets(self.base_model, self.plan)  # type: ignore[attr-defined]
        _reach(self.fields["rank"], self.plan.get("rank"))
        _reach(self.fields["prefix_length"], self.plan.get("prefix_length"))

    def stored(self, study: Study | None) -> dict[str, Any]:
        stored = super().stored(study)
        usual = self.base_model.targets if self.base_model is not None else []
        targets = stored.get("targets") or usual
        return {**stored, "vault_bytes": stored.get("vault_bytes", 0) / GIB, "targets": targets}

    def changes(self) -> dict[str, Any]:
        changes = super().changes()
        if "vault_bytes" in changes:
            changes["vault_bytes"] = round(changes["vault_bytes"] * GIB)
        if self.base_model is not None and set(changes["targets"]) == set(self.base_model.targets):
            changes["targets"] = []  # the usual ones, also where they change
        return changes


def _targets(model: BaseModel | None, plan: dict[str, Any]) -> list[tuple[str, str]]:
    """Names of linears to choose from; a name that is the end of another's takes in that one too."""
    named = tunable(model) if model is not None else {}
    usual = model.targets if model is not None else []
    names = list(dict.fromkeys((*named, *usual, *(plan.get("targets") or ()))))
    found = []
    for name in names:
        others = [path for path in named.get(name, ()) if path != name]
        found.append((name, _("%(name)s (and %(others)s)") % {"name": name, "others": ", ".join(others)}
                      if others else name))  # fmt: skip
    return found


def _reach(field: forms.Field, value: Any) -> None:
    """A slider must reach what is stored, or it would silently show less."""
    if isinstance(value, int) and value > int(field.widget.attrs["max"]):
        field.widget.attrs["max"] = value


class SplitForm(StepForm):
    """Method 2: where the model is cut, and what is tuned behind the cut."""

    cut = _number(
        _("Layers that stay at the hospitals"), 1, 1000,
        _("The front is frozen and public. The layers after the cut train in the server's TEE."),
        widget=Slider(min=1, max=1, step=1),
    )  # fmt: skip
    attention_ratio = _ratio(
        _("Attention heads that are tuned (Q, K, V)"), _("0 % leaves the attention as it is.")
    )
    dense_ratio = _ratio(
        _("Rows of the dense layers that are tuned"), _("0 % leaves the dense layers alone.")
    )
    select = forms.ChoiceField(
        label=_("Which heads and rows"),
        choices=(
            ("largest", _("those with the largest L1 norm (the paper's)")),
            ("smallest", _("those with the smallest")),
            ("random", _("drawn by the seed")),
        ),
    )
    PLACES: ClassVar = (("dense", _("dense layers")), ("attention_output", _("attention output")))
    tuned_rows = forms.MultipleChoiceField(
        label=_("The ratio of rows is for"), choices=PLACES, required=False,
        widget=forms.CheckboxSelectMultiple,
    )  # fmt: skip
    tuned_lora = forms.MultipleChoiceField(
        label=_("LoRA as well on"), choices=PLACES, required=False, widget=forms.CheckboxSelectMultiple
    )
    rank = _number(_("LoRA rank"), 1, 512)
    alpha = _number(_("LoRA alpha"), 1, 1024)
    batches = forms.ChoiceField(
        label=_("Batches"),
        choices=(
            ("pooled", _("drawn from all hospitals")),
            ("per-site", _("one tail a hospital, averaged each round")),
        ),
    )
    checkpointing = forms.BooleanField(
        label=_("Compute activations again instead of keeping them"), required=False,
        help_text=_("Less memory in the TEE, more time."),
    )  # fmt: skip

    def prepare(self) -> None:
        layers = (self.base_model.config if self.base_model else {}).get("num_hidden_layers", 2)
        self.deepest = max(1, layers - 1)
        self.fields["cut"].widget.attrs["max"] = self.deepest

    def clean_cut(self) -> int:
        cut: int = self.cleaned_data["cut"]
        if cut > self.deepest:
            raise forms.ValidationError(_("The model can be cut after layer %d at most.") % self.deepest)
        return cut


class TrainingForm(StepForm):
    rounds = _number(_("Rounds"), 1, 1000)
    local_epochs = _number(_("Epochs in a round"), 1, 100)
    batch_size = _number(_("Batch size"), 1, 1024)
    learning_rate = forms.FloatField(
        label=_("Learning rate"), min_value=1e-7, max_value=1, widget=forms.NumberInput({"step": "any"})
    )
    schedule = forms.ChoiceField(
        label=_("Learning rate over the run"),
        choices=[(name, WORDS[name]) for name in ("constant", "linear", "cosine")],
    )
    warmup = forms.FloatField(
        label=_("Warm-up (% of all steps)"), min_value=0, max_value=100,
        help_text=_("The learning rate rises from 0 over these steps. 5 to 10 % steadies large models."),
        widget=forms.NumberInput({"step": "any"}),
    )  # fmt: skip
    patience = _number(
        _("End early after (rounds)"), 0, 1000,
        _("So many rounds in which the loss on held-out rows has not fallen. 0: train all rounds."),
    )  # fmt: skip
    seed = _number(_("Seed"), 0, 2**53 - 1, _("The same seed gives the same run."))
    rule = forms.ChoiceField(
        label=_("How updates are averaged"),
        choices=(
            ("fedavg", _("FedAvg (the paper's): each factor by itself")),
            ("ffa-lora", _("FFA-LoRA: one factor stays, so the mean is exact")),
            ("stack-svd", _("stacking and SVD: the products' mean, cut to the rank")),
        ),
    )
    clip = forms.FloatField(
        label=_("Clip a hospital's change to (L2 norm)"), min_value=1e-6, max_value=1e6, required=False,
        help_text=_("Empty: no bound. Noise per hospital needs one."),
        widget=forms.NumberInput({"step": "any"}),
    )  # fmt: skip
    max_samples = _number(
        _("A hospital counts for at most (rows)"), 1, 2**40 - 1, _("Empty: for all of its rows."),
        required=False,
    )  # fmt: skip
    privacy = forms.ChoiceField(
        label=_("Noise (differential privacy)"),
        choices=(
            ("none", _("none")),
            ("site", _("per hospital: in the server enclave, on each mean")),
            ("record", _("per row: in each hospital's enclave, on each step")),
        ),
    )
    noise = forms.FloatField(
        label=_("Noise, in sensitivities"), min_value=0.01, max_value=1000,
        widget=forms.NumberInput({"step": "any"}),
    )  # fmt: skip
    delta = forms.FloatField(
        label=_("Delta"), min_value=1e-300, max_value=0.1, widget=forms.NumberInput({"step": "any"})
    )
    gradient_clip = forms.FloatField(
        label=_("Clip a row's gradient to (L2 norm)"), min_value=1e-6, max_value=1e6,
        help_text=_("For noise per row."), widget=forms.NumberInput({"step": "any"}),
    )  # fmt: skip
    accountant = forms.ChoiceField(label=_("Accountant"), choices=(("rdp", "RDP"), ("prv", "PRV")))
    quorum = _number(
        _("Quorum"), 1, 1000, _("Fewest hospitals in a round. Empty: all of them."), required=False
    )
    deadline_seconds = _number(
        _("A round waits for (seconds)"), 10, 7 * 24 * 3600,
        _("After that it goes on with those who came, if they are a quorum."),
    )  # fmt: skip
    release = forms.ChoiceField(label=_("What may come out"), choices=RELEASES)
    release_approvals = _number(
        _("Hospitals that must sign a release"), 1, 1000, _("Empty: all of them."), required=False
    )
    runtime = forms.ChoiceField(label=_("Runtime of the enclaves"))
    accepted_statuses = forms.MultipleChoiceField(
        label=_("Accepted states of a platform"), choices=[(s, s) for s in get_args(TcbStatus)],
        widget=forms.CheckboxSelectMultiple,
        help_text=_("What Intel says of a platform's updates. Each more than UpToDate accepts known flaws."),
    )  # fmt: skip
    accepted_advisories = forms.CharField(
        label=_("Accepted advisories"), required=False, max_length=4000,
        help_text=_("Intel's numbers (INTEL-SA-00615), apart by spaces: those that a platform in another "
                    "state may have open."),
    )  # fmt: skip

    TRAINING: ClassVar = ("rounds", "local_epochs", "batch_size", "learning_rate", "schedule")
    AVERAGING: ClassVar = ("rule", "clip", "max_samples")
    PRIVACY: ClassVar = ("privacy", "noise", "delta", "gradient_clip", "accountant")
    RULES: ClassVar = ("quorum", "release", "runtime")
    PARTS: ClassVar = (
        (_("Training"), TRAINING, ()),
        (_("Averaging"), AVERAGING, ()),
        # What describes the noise is shown where there is some.
        (_("Noise"), PRIVACY[:1], PRIVACY[1:]),
        (_("Rounds and release"), RULES, ()),
    )
    MORE: ClassVar = ("warmup", "patience", "seed", "deadline_seconds", "release_approvals")
    PLATFORM: ClassVar = ("accepted_statuses", "accepted_advisories")

    @property
    def parts(self) -> list[dict[str, Any]]:
        """Cards of fields, for the template."""
        there = [(title, self._there(names), self._there(details)) for title, names, details in self.PARTS]
        return [{"title": title, "fields": these, "details": more} for title, these, more in there if these]

    @property
    def more(self) -> list[forms.BoundField]:
        """The fields of the disclosure that few need."""
        return self._there(self.MORE)

    @property
    def more_open(self) -> bool:
        """Whether something in the disclosure has to be mended: then it is open."""
        return any(name in self.errors for name in (*self.MORE, *self.PLATFORM))

    def _there(self, names: tuple[str, ...]) -> list[forms.BoundField]:
        return [self[name] for name in names if name in self.fields]

    def stored(self, study: Study | None) -> dict[str, Any]:
        stored = super().stored(study)
        return {
            **stored,
            "warmup": f"{stored.get('warmup', 0) * 100:g}",
            "accepted_advisories": " ".join(stored.get("accepted_advisories") or ()),
        }

    def changes(self) -> dict[str, Any]:
        changes = super().changes()
        changes["warmup"] = changes["warmup"] / 100
        changes["accepted_advisories"] = self.cleaned_data["accepted_advisories"]
        return changes

    def prepare(self) -> None:
        self.fields["runtime"].choices = [  # type: ignore[attr-defined]
            (name, name) for name in settings.ENCLAVE_RUNTIMES
        ]
        if self.plan.get("method") == "method-2":
            for name in (*self.AVERAGING, *self.PRIVACY):
                del self.fields[name]
        else:
            del self.fields["patience"]

    def clean_quorum(self) -> int | None:
        return self._at_most_all("quorum")

    def clean_release_approvals(self) -> int | None:
        return self._at_most_all("release_approvals")

    def _at_most_all(self, name: str) -> int | None:
        count: int | None = self.cleaned_data[name]
        members = self.study.datasets.count() if self.study else 0
        if count is not None and members and count > members:
            raise forms.ValidationError(
                ngettext("The study has %d hospital.", "The study has %d hospitals.", members) % members
            )
        return count

    def clean_accepted_advisories(self) -> list[str]:
        found = self.cleaned_data["accepted_advisories"].replace(",", " ").upper().split()
        strange = [one for one in found if not re.fullmatch(r"[A-Z0-9-]{1,32}", one)]
        if strange:
            raise forms.ValidationError(_("This is not the number of an advisory: %s") % strange[0][:40])
        return list(dict.fromkeys(found))

    def clean(self) -> dict[str, Any]:
        """What does not go together is said at the field that can mend it."""
        cleaned = super().clean() or {}
        rule, privacy = cleaned.get("rule"), cleaned.get("privacy")
        if rule in ("ffa-lora", "stack-svd") and self.plan.get("adapter") == "prefix":
            self.add_error("rule", _("This rule is for LoRA; a prefix is averaged by FedAvg."))
        if privacy == "site" and cleaned.get("clip") is None and "clip" not in self.errors:
            self.add_error("clip", _("Noise per hospital needs a bound on a hospital's change."))
        if privacy == "site" and rule == "stack-svd":
            self.add_error("rule", _("Noise per hospital goes with FedAvg or FFA-LoRA."))
        if privacy == "record" and (cleaned.get("schedule"), cleaned.get("warmup")) != ("constant", 0):
            field = "schedule" if cleaned.get("schedule") != "constant" else "warmup"
            self.add_error(field, _("Noise per row goes with a constant learning rate, without warm-up."))
        if privacy == "record" and self.plan.get("placement") == "masked":
            self.add_error("privacy", _("Noise per row draws rows at random; no pads can be made for that."))
        return cleaned
