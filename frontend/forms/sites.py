"""Forms about a hospital."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from django import forms
from django.utils.translation import gettext_lazy as _

_TIME = "%Y-%m-%dT%H:%M"


class MaintenanceForm(forms.Form):
    """Times are in the reader's zone, which the page's script fills in; without a script they are UTC."""

    starts = forms.DateTimeField(label=_("From"), input_formats=[_TIME, "%Y-%m-%d %H:%M"])
    ends = forms.DateTimeField(label=_("To"), input_formats=[_TIME, "%Y-%m-%d %H:%M"])
    weekly = forms.BooleanField(
        label=_("Every week at this time (seven days apart: it moves by an hour with summer time)"),
        required=False,
    )
    reason = forms.CharField(
        label=_("Reason"),
        max_length=200,
        required=False,
        help_text=_("For the people of the studies: “backup”, “new network cards”."),
    )
    zone = forms.CharField(required=False, max_length=64, widget=forms.HiddenInput(attrs={"data-zone": ""}))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("starts", "ends"):
            self.fields[name].widget = forms.DateTimeInput(attrs={"type": "datetime-local"}, format=_TIME)

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        zone = data.get("zone") or "UTC"
        if zone not in available_timezones():
            raise forms.ValidationError(_("The time zone %(zone)s is not known."), params={"zone": zone})
        for name in ("starts", "ends"):
            if data.get(name) is not None:
                data[name] = data[name].replace(tzinfo=ZoneInfo(zone))
        return data
