"""A bundle checked in the browser: one of three verdicts, what is missing, and what to do.

The machine that checks is the coordinator. The page says so: who doubts it checks on a machine of their
own, by the same code."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods

from contracts.refusal import Refusal
from federation.attestation import bundle_checks, permissions
from federation.attestation.bundle_checks import MEANING, next_steps
from frontend.forms.log import BundleForm
from frontend.views.acting import person
from transparency_log.report import BundleReport, Claim

MAX_UNPACKED_BYTES = 512 << 20
SHOWN = 50  # statements of a kind on the page; the command line shows more

TITLES = {
    "the log": _("The log itself"),
    "attachments": _("Attachments"),
    "evidence": _("Evidence of enclaves"),
    "approvals": _("Approvals of the hospitals"),
    "contributors": _("Lists of contributors"),
    "rounds": _("Rounds and receipts"),
    "keys": _("Keys and parameters handed over"),
    "releases": _("Releases"),
}
VERDICTS = {
    "verified": (_("Verified"), _(MEANING["verified"])),
    "incomplete": (_("Incomplete"), _(MEANING["incomplete"])),
    "failed": (_("Failed"), _(MEANING["failed"])),
}


@dataclass(frozen=True)
class ClaimShown:
    """A row of the table: a claim, its verdict, and the statements that led to it."""

    title: str
    verdict: str
    word: str
    failed: list[str]
    missing: list[str]
    established: list[str]


@login_required
@require_http_methods(["GET", "POST"])
def check(request: HttpRequest) -> HttpResponse:
    """Ask for a bundle; with one, show what checking it came to. Nothing is kept."""
    if not permissions.can_export(person(request)):
        raise PermissionDenied
    form = BundleForm(request.POST or None, request.FILES or None)
    shown: dict[str, object] = {"form": form}
    if request.method == "POST" and form.is_valid():
        try:
            report = _check(form.cleaned_data["bundle"], form.cleaned_data["log_key"].strip())
            shown |= _report(report)
        except Refusal as refusal:
            shown["refused"] = refusal
    return render(request, "frontend/log/check.html", shown)


def _check(upload: UploadedFile, log_key: str) -> BundleReport:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bundle.zip"
        with path.open("wb") as file:
            for chunk in upload.chunks():
                file.write(chunk)
        return bundle_checks.check(path, log_key=log_key or None, unpacked=MAX_UNPACKED_BYTES)


def _report(report: BundleReport) -> dict[str, object]:
    word, meaning = VERDICTS[report.verdict]
    return {
        "report": report,
        "word": word,
        "meaning": meaning,
        "claims": [_claim(report, claim, verdict) for claim, verdict in report.verdicts().items()],
        "open": report.words("not established"),
        "steps": next_steps(report.of("failed") + report.of("missing")),
    }


def _claim(report: BundleReport, claim: Claim, verdict: str) -> ClaimShown:
    return ClaimShown(
        str(TITLES[claim]),
        verdict,
        str(VERDICTS[verdict][0]),
        report.words("failed", claim)[:SHOWN],
        report.words("missing", claim)[:SHOWN],
        report.words("established", claim)[:SHOWN],
    )
