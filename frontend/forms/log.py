"""What a reader of the log asks for."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any, get_args

from django import forms
from django.utils.translation import gettext_lazy as _

from contracts.policy import Program
from federation.attestation.queries import LogFilter
from federation.people.models import User
from federation.sites import permissions as sites
from federation.studies import permissions as studies
from transparency_log.entry import (
    APPRAISAL,
    APPROVAL,
    KEY_RELEASE,
    RECEIPT,
    RECORDED,
    RELEASE,
    ROSTER,
    ROSTER_FIXED,
    SERVING,
)

KINDS = (APPRAISAL, APPROVAL, KEY_RELEASE, ROSTER_FIXED, ROSTER, RECEIPT, RELEASE, SERVING, *sorted(RECORDED))
ANY = ("", _("any"))
MAX_BUNDLE_BYTES = 64 << 20


class LogFilterForm(forms.Form):
    """Days are UTC, both ends included."""

    site = forms.ChoiceField(label=_("Hospital"), required=False)
    study = forms.ChoiceField(label=_("Study"), required=False)
    kind = forms.ChoiceField(label=_("Kind"), required=False)
    program = forms.ChoiceField(label=_("Program"), required=False)
    verdict = forms.ChoiceField(
        label=_("Verdict"),
        required=False,
        choices=(ANY, ("accepted", _("accepted")), ("refused", _("refused"))),
    )
    code = forms.CharField(label=_("Code"), required=False, max_length=64)
    since = forms.DateField(
        label=_("From"), required=False, widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")
    )
    until = forms.DateField(
        label=_("To"), required=False, widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")
    )

    def __init__(self, data: Any, user: User) -> None:
        super().__init__(data)
        own_sites = ((site.pk, str(site)) for site in sites.visible_to(user))
        own_studies = studies.visible_to(user).order_by("name").values_list("pk", "name")
        self.fields["site"].choices = [ANY, *own_sites]  # type: ignore[attr-defined]
        self.fields["study"].choices = [ANY, *own_studies]  # type: ignore[attr-defined]
        self.fields["program"].choices = [ANY, *((name, name) for name in get_args(Program))]  # type: ignore[attr-defined]
        self.fields["kind"].choices = [ANY, *((name, name) for name in KINDS)]  # type: ignore[attr-defined]
        self.fields["code"].widget.attrs["placeholder"] = "attest.measurement"

    def wanted(self) -> LogFilter:
        """The filter, of a valid form."""
        given = self.cleaned_data
        since, until = given["since"], given["until"]
        return LogFilter(
            **{name: given[name].strip() for name in ("site", "study", "kind", "program", "verdict", "code")},
            since=datetime.combine(since, time(), UTC) if since else None,
            until=datetime.combine(until + timedelta(days=1), time(), UTC) if until else None,
        )


class BundleForm(forms.Form):
    """A bundle to check, and the key of the log that it should be of."""

    bundle = forms.FileField(
        label=_("Bundle"),
        help_text=_("The .zip file that was exported."),
        widget=forms.ClearableFileInput(attrs={"accept": ".zip,application/zip"}),
    )
    log_key = forms.CharField(
        label=_("Log's key"),
        required=False,
        max_length=400,
        help_text=_("From somebody else than this server. Left empty, this server's own log is meant."),
    )

    def clean_bundle(self) -> Any:
        """Large ones are for the command line."""
        given = self.cleaned_data["bundle"]
        if given.size > MAX_BUNDLE_BYTES:
            raise forms.ValidationError(
                _("It has more than 64 MiB: check it with the command below."), code="bundle.too_large"
            )
        return given
