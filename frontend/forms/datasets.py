"""What a hospital's admin says of a dataset."""

from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy as _

from federation.datasets.about import LIMITS


class AboutForm(forms.Form):
    """All of it may stay empty."""

    description = forms.CharField(
        label=_("Description"),
        required=False,
        max_length=LIMITS["description"],
        widget=forms.Textarea(attrs={"rows": 6}),
        help_text=_("What the rows are, whom they are of, how they were collected and chosen."),
    )
    period = forms.CharField(
        label=_("Period"),
        required=False,
        max_length=LIMITS["period"],
        help_text=_("When they were written, as “2019 to 2024”."),
    )
    licence = forms.CharField(label=_("Licence"), required=False, max_length=LIMITS["licence"])
    legal_basis = forms.CharField(
        label=_("Legal basis"),
        required=False,
        max_length=LIMITS["legal_basis"],
        help_text=_("By which right they may be used: consent, a law, the vote of an ethics board."),
    )
    contact = forms.CharField(
        label=_("Contact"),
        required=False,
        max_length=LIMITS["contact"],
        help_text=_("Whom to ask about them."),
    )
