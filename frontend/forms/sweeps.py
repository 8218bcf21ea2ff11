"""The lead's form for a sweep: what is varied over the points."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from enclave_jobs.runs.sweeps import Axes

RATIOS = (12.5, 25.0, 37.5, 50.0, 62.5, 75.0, 87.5, 100.0)
PAPERS = (12.5, 25.0, 50.0, 62.5, 100.0)


class Numbers(forms.CharField):
    """Whole numbers, separated by commas or blanks."""

    def clean(self, value: Any) -> list[int]:
        words = str(super().clean(value) or "").replace(",", " ").split()
        if not all(word.isdecimal() and len(word) < 17 for word in words):
            raise forms.ValidationError(_("Give whole numbers, separated by commas."))
        return [int(word) for word in words]


class SweepForm(forms.Form):
    name = forms.CharField(label=_("Name"), max_length=200)
    ratios = forms.TypedMultipleChoiceField(
        label=_("Ratios, of attention heads and dense rows alike"), coerce=float,
        choices=[(ratio, f"{ratio:g} %") for ratio in RATIOS], initial=PAPERS,
        widget=forms.CheckboxSelectMultiple,
    )  # fmt: skip
    selects = forms.MultipleChoiceField(
        label=_("Which heads and rows"), initial=("largest",), widget=forms.CheckboxSelectMultiple,
        choices=(("largest", _("largest")), ("smallest", _("smallest")), ("random", _("random"))),
    )  # fmt: skip
    cuts = Numbers(label=_("Cuts (k)"), required=False, help_text=_("Empty: the study's own."))
    seeds = Numbers(
        label=_("Seeds"), required=False, initial="0, 1, 2",
        help_text=_("Two or more give a confidence interval. Empty: the study's own."),
    )  # fmt: skip
    releases = forms.IntegerField(
        label=_("How many of its results may be released"), min_value=0, max_value=60, initial=1,
        required=False,
        help_text=_("Each hospital signs this number with the sweep; 0: none. Empty: one."),
    )  # fmt: skip

    def allowed(self) -> int:
        """How many results are asked to be released."""
        chosen = self.cleaned_data["releases"]
        return 1 if chosen is None else int(chosen)

    def axes(self) -> Axes:
        """What was chosen."""
        data = self.cleaned_data
        return Axes(data["ratios"], data["cuts"], data["selects"], data["seeds"])
