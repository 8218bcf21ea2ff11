"""An operator registers a base model."""

from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy as _

TASKS = (
    ("sequence-classification", _("sorts texts")),
    ("token-classification", _("tags words")),
    ("causal-lm", _("writes text")),
)


class RegisterForm(forms.Form):
    source = forms.CharField(
        label=_("Where it is"),
        max_length=200,
        help_text=_("embedded:all-MiniLM-L6-v2, a folder on the workers' machine, or a Hugging Face id."),
    )
    task = forms.ChoiceField(label=_("What for"), choices=TASKS)
    name = forms.CharField(
        label=_("Name"), max_length=200, required=False, help_text=_("How studies show it; else its source.")
    )
