"""An operator puts a reference value forward."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
from django import forms
from django.utils.translation import gettext_lazy as _

from contracts.policy import Program, Reference
from contracts.refusal import Refusal
from federation.attestation.models import Root


class ReferenceForm(forms.Form):
    """One enclave identity: MRENCLAVE; or MRSIGNER with product id and SVN; or MRTD with four RTMRs."""

    program = forms.ChoiceField(label=_("Program"), choices=[(name, name) for name in get_args(Program)])
    root = forms.ChoiceField(label=_("Trust root"), choices=Root.choices)
    mrenclave = forms.CharField(
        label="MRENCLAVE", required=False, max_length=64, help_text=_("SGX: 64 hex digits.")
    )
    mrsigner = forms.CharField(
        label="MRSIGNER",
        required=False,
        max_length=64,
        help_text=_("SGX, instead of MRENCLAVE: whoever signed it, with the two numbers below."),
    )
    product_id = forms.IntegerField(label=_("Product id"), required=False, min_value=0, max_value=0xFFFF)
    minimum_svn = forms.IntegerField(label=_("Minimum SVN"), required=False, min_value=0, max_value=0xFFFF)
    mrtd = forms.CharField(label="MRTD", required=False, max_length=96, help_text=_("TDX: 96 hex digits."))
    rtmrs = forms.CharField(
        label="RTMR 0–3",
        required=False,
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text=_("TDX: four lines of 96 hex digits."),
    )
    started = forms.CharField(
        label=_("Started with"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text=_(
            "Only where it is started with more than the least: a line for each field, such as "
            "“xfrm 00000000000000e7” or “xfrm_mask fffffffffffffd1b”."
        ),
    )
    source_commit = forms.CharField(
        label=_("Source commit"), max_length=64, help_text=_("What it was built from, for others to rebuild.")
    )
    reason = forms.CharField(label=_("Why"), max_length=500, widget=forms.Textarea(attrs={"rows": 3}))

    def value(self) -> Reference:
        """The identity that was typed.

        Raises: `reference.invalid`.
        """
        given = self.cleaned_data
        fields: dict[str, Any] = {"program": given["program"]}
        if given["mrtd"] or given["rtmrs"]:
            fields |= {"type": "tdx", "mrtd": given["mrtd"].lower(), "rtmrs": given["rtmrs"].lower().split()}
        else:
            fields["type"] = "sgx"
            fields |= {name: given[name].lower() for name in ("mrenclave", "mrsigner") if given[name]}
            numbers = ("product_id", "minimum_svn")
            fields |= {name: given[name] for name in numbers if given[name] is not None}
        try:
            # Not strict: what is typed is text, and some fields are numbers. The fields above count.
            started = dict(line.split() for line in given["started"].splitlines() if line.strip())
            return msgspec.convert(started | fields, Reference, strict=False)
        except ValueError as error:  # msgspec's, and of a line that is not a name and a value
            raise Refusal("reference.invalid", fault=str(error)[:200]) from error
