"""What is tuned: the adapters of Method 1, the cut and the ratios of Method 2."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.utils.translation import gettext_lazy as _

from contracts.refusal import Refusal
from enclave_jobs.runs.costs import tunable
from error_catalogue import explain
from federation.studies.models import BaseModel, Study
from federation.studies.plan import read
from federation.studies.starting import offered_to, require_fit
from frontend.forms.wizard.basics import offered, tried
from frontend.forms.wizard.step import Slider, StepForm, number, ratio

GIB = 1 << 30


def start() -> forms.ChoiceField:
    """A released adapter; an empty choice is none."""
    return forms.ChoiceField(
        label=_("Tuning starts from"), required=False,
        help_text=_("An adapter that an earlier study released. Every hospital of this study gets it, and it "
                    "may remember texts of the earlier one."),
    )  # fmt: skip


class StartingForm(StepForm):
    """A step that may let tuning start from a released adapter."""

    def prepare(self) -> None:
        kept = [(adapter.sha256, adapter.name) for adapter in offered_to(self.user)]
        stored = self.plan.get("start", "")
        if stored and stored not in dict(kept):
            kept.append((stored, f"{stored[:16]}…"))  # to be refused, and not left out silently
        field: Any = self.fields["start"]
        field.choices = [("", _("drawn parameters, as always")), *kept]

    def changes(self) -> dict[str, Any]:
        return {**super().changes(), "start": self.cleaned_data.get("start") or ""}

    def clean(self) -> dict[str, Any]:
        """Whether the adapter fits, by the words by which freezing would refuse it."""
        cleaned = super().clean() or {}
        if cleaned.get("start") and not self.errors and self.study is not None:
            try:
                plan = read({**self.plan, **self.changes()})
                require_fit(self.user, plan, list(self.study.datasets.all()))
            except Refusal as refusal:
                words = explain(refusal.code, refusal.facts)
                self.add_error("start", f"{words.message} {words.hint}")
        return cleaned


def dropout() -> forms.FloatField:
    """A share; nothing typed is none."""
    return forms.FloatField(
        label=_("LoRA dropout"), min_value=0, max_value=0.9, required=False,
        help_text=_("The share of a pair's inputs that each training step leaves out. 0: none; 0.05 to 0.1 "
                    "for few rows."),
        widget=forms.NumberInput({"step": "any"}),
    )  # fmt: skip


def by_root() -> forms.BooleanField:
    """rsLoRA."""
    return forms.BooleanField(
        label=_("Weigh LoRA by alpha / √rank (rsLoRA)"), required=False,
        help_text=_("Instead of alpha / rank: high ranks learn as fast as low ones."),
    )  # fmt: skip


class AdapterForm(StartingForm):
    """Method 1: what is tuned, which layers are left to the hospitals' own machines, and, where masked, how
    the accelerator is checked."""

    adapter = forms.ChoiceField(
        label=_("What is tuned"),
        widget=forms.RadioSelect,
        choices=(
            ("lora", _("LoRA: two thin matrices beside each chosen layer")),
            ("prefix", _("P-Tuning v2: trained positions before each layer")),
        ),
    )
    rank = number(
        _("LoRA rank"), 1, 512, _("More can learn more, and costs more to send."),
        widget=Slider(min=1, max=64, step=1),
    )  # fmt: skip
    alpha = number(_("LoRA alpha"), 1, 1024, _("Usually twice the rank."))
    lora_dropout, rslora, start = dropout(), by_root(), start()
    targets = forms.MultipleChoiceField(
        label=_("LoRA is put on, in every tuned layer"), required=False, widget=forms.CheckboxSelectMultiple,
        help_text=_("None ticked: those that are usual for this model."),
    )  # fmt: skip
    prefix_length = number(
        _("Prefix length"), 1, 1024, _("These positions are taken from the text's."),
        widget=Slider(min=1, max=128, step=1),
    )  # fmt: skip
    front = number(
        _("Layers that a hospital's own machine computes"), 0, 1000,
        _("They stay as they are, and are public. 0: all layers are in the enclave, and all are tuned."),
        widget=Slider(min=0, max=1, step=1), required=False,
    )  # fmt: skip
    front_sample = number(
        _("Rows that its enclave computes again"), 1, 10_000,
        _("Of those that it trains on, and as many of those that it evaluates on, drawn secretly. Where one "
          "row in twenty was changed, 32 find it in 4 of 5 cases; one in ten, in 29 of 30."),
        required=False,
    )  # fmt: skip
    accelerator = forms.ChoiceField(
        label=_("Whose accelerators multiply"), required=False, widget=forms.RadioSelect,
        choices=(
            ("site", _("each hospital's own, as its other machines are")),
            ("other", _("somebody else's, at one hospital at least")),
        ),
    )  # fmt: skip
    repetitions = number(
        _("Checks of each product"), 1, 8,
        _("Secret vectors that test what the accelerator answers. One finds a fault all but once in 2⁶¹."),
    )  # fmt: skip
    vault_bytes = forms.FloatField(
        label=_("Room for pads at a hospital (GiB)"), min_value=0, max_value=16384,
        help_text=_("More room, more work done ahead of time."),
    )  # fmt: skip

    native_passes = forms.BooleanField(
        label=_("Put masks on in C"), required=False,
        help_text=_("The same numbers, sooner. Each hospital then needs the package fedslice-kernels, as the "
                    "coordinator offers it, signed; where it is missing, the enclave refuses to compute. "
                    "Not under SGX yet."),
    )  # fmt: skip

    MASKED: ClassVar = ("repetitions", "vault_bytes", "accelerator", "native_passes")
    OPTIONAL: ClassVar = ("front", "front_sample", "accelerator")

    def prepare(self) -> None:
        super().prepare()
        layers = (self.base_model.config if self.base_model else {}).get("num_hidden_layers", 1)
        self.deepest = max(0, layers - 1)
        self.fields["front"].widget.attrs["max"] = self.deepest
        _reach(self.fields["front"], self.plan.get("front"))
        if self.plan.get("placement") == "plaintext":
            for name in ("front", "front_sample"):
                del self.fields[name]
        if self.plan.get("placement") != "masked":
            for name in self.MASKED:
                del self.fields[name]
        self._offer_proven()
        self.fields["targets"].choices = _targets(self.base_model, self.plan)  # type: ignore[attr-defined]
        _reach(self.fields["rank"], self.plan.get("rank"))
        _reach(self.fields["prefix_length"], self.plan.get("prefix_length"))

    def _offer_proven(self) -> None:
        """Adapters with which the model was seen to be tuned, and why not the others; the plan's own stays,
        to be refused."""
        placement = self.plan.get("placement", "all_in_tee")
        known = [*offered(self.base_model, placement), self.plan.get("adapter", "lora")]
        field: Any = self.fields["adapter"]
        refused = {n: v for n, v in tried(self.base_model, placement).items() if n not in known}
        field.choices = [(name, label) for name, label in field.choices if name not in refused]
        reasons = " ".join(explain(v.code, v.facts).message for v in refused.values())
        field.help_text = _("Not offered for this model: %s") % reasons if reasons else ""

    def stored(self, study: Study | None) -> dict[str, Any]:
        stored = super().stored(study)
        usual = self.base_model.targets if self.base_model is not None else []
        targets = stored.get("targets") or usual
        return {**stored, "vault_bytes": stored.get("vault_bytes", 0) / GIB, "targets": targets}

    def changes(self) -> dict[str, Any]:
        changes = super().changes()
        for name in self.OPTIONAL:
            if changes.get(name) is None:
                changes.pop(name, None)  # it was not asked: what is stored stays
        if changes["adapter"] == "prefix":
            changes["front"] = 0  # a prefix stands before every layer
        if "vault_bytes" in changes:
            changes["vault_bytes"] = round(changes["vault_bytes"] * GIB)
        if self.base_model is not None and set(changes["targets"]) == set(self.base_model.targets):
            changes["targets"] = []  # the usual ones, also where they change
        return changes

    def clean_lora_dropout(self) -> float:
        return self.cleaned_data["lora_dropout"] or 0.0

    def clean(self) -> dict[str, Any]:
        """A public front leaves a layer to be tuned, and is for the hospitals' own accelerators."""
        cleaned = super().clean() or {}
        front = cleaned.get("front") or 0
        if cleaned.get("adapter") != "lora" or not front:
            return cleaned
        if front > self.deepest:
            self.add_error(
                "front", _("This model has %d layers: one at least is tuned.") % (self.deepest + 1)
            )
        if cleaned.get("accelerator") == "other":
            self.add_error("front", _("A public front is for accelerators that are the hospitals' own."))
        return cleaned


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


class SplitForm(StartingForm):
    """Method 2: where the model is cut, and what is tuned behind the cut."""

    cut = number(
        _("Layers that stay at the hospitals"), 1, 1000,
        _("The front is frozen and public. The layers after the cut train in the server's TEE."),
        widget=Slider(min=1, max=1, step=1),
    )  # fmt: skip
    attention_ratio = ratio(
        _("Attention heads that are tuned (Q, K, V)"), _("0 % leaves the attention as it is.")
    )
    dense_ratio = ratio(_("Rows of the dense layers that are tuned"), _("0 % leaves the dense layers alone."))
    select = forms.ChoiceField(
        label=_("Which heads and rows"),
        choices=(
            ("largest", _("the largest L1 norm (the paper's)")),
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
    rank = number(_("LoRA rank"), 1, 512)
    alpha = number(_("LoRA alpha"), 1, 1024)
    lora_dropout, rslora, start = dropout(), by_root(), start()
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
        super().prepare()
        layers = (self.base_model.config if self.base_model else {}).get("num_hidden_layers", 2)
        self.deepest = max(1, layers - 1)
        self.fields["cut"].widget.attrs["max"] = self.deepest

    def clean_lora_dropout(self) -> float:
        return self.cleaned_data["lora_dropout"] or 0.0

    def clean_cut(self) -> int:
        cut: int = self.cleaned_data["cut"]
        if cut > self.deepest:
            raise forms.ValidationError(_("The model can be cut after layer %d at most.") % self.deepest)
        return cut
