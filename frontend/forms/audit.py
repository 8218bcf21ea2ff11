"""What a reader of the audit trail asks for."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from federation.audit.queries import AuditFilter
from frontend.activity import KINDS


class AuditFilterForm(forms.Form):
    """Days are UTC, both ends included."""

    actor = forms.CharField(label=_("Who"), required=False, max_length=254)
    action = forms.ChoiceField(label=_("What"), required=False)
    target = forms.CharField(label=_("About"), required=False, max_length=128)
    since = forms.DateField(
        label=_("From"), required=False, widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")
    )
    until = forms.DateField(
        label=_("To"), required=False, widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")
    )

    def __init__(self, data: Any) -> None:
        super().__init__(data)
        self.fields["action"].choices = [("", _("any")), *KINDS]  # type: ignore[attr-defined]
        self.fields["actor"].widget.attrs["placeholder"] = "olga@coordinator.example"
        self.fields["target"].widget.attrs["placeholder"] = "study:…"

    def wanted(self) -> AuditFilter:
        """The filter, of a valid form."""
        given = self.cleaned_data
        since, until = given["since"], given["until"]
        return AuditFilter(
            actor=given["actor"].strip(),
            action=given["action"],
            target=given["target"].strip(),
            since=datetime.combine(since, time(), UTC) if since else None,
            until=datetime.combine(until + timedelta(days=1), time(), UTC) if until else None,
        )
