"""The transparency log: found by what it is about, proved entry by entry, and taken home as a bundle."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST

from contracts.refusal import Refusal
from error_catalogue import explain
from federation.attestation import bundles, log, permissions, queries
from federation.attestation.models import AppraisalRecord, Checkpoint, LogEntry, StoredEvidence
from federation.audit.services import record
from federation.people.models import Role, User
from frontend.evidence import compare
from frontend.forms.log import LogFilterForm
from frontend.proofs import prove
from frontend.views.acting import person
from transparency_log.entry import parse_entry

IN_BROWSER = 20_000


def _reader(request: HttpRequest) -> User:
    user = person(request)
    if user.role == Role.SITE_ADMIN:
        raise PermissionDenied
    return user


@login_required
def log_list(request: HttpRequest) -> HttpResponse:
    """One page of entries by key (`before` is an index), so that page 2,000 costs what page 1 does."""
    user = _reader(request)
    form = LogFilterForm(request.GET, user)
    before = request.GET.get("before", "")
    key = int(before[:18]) if before.isdecimal() else None
    page: list[LogEntry] = []
    if form.is_valid():
        visible = permissions.log_visible_to(user)
        page = queries.log_page(visible, form.wanted(), before=key, size=queries.PAGE + 1)
    asked = {name: value for name, value in request.GET.items() if name in form.fields and value}
    return render(
        request,
        "frontend/log/list.html",
        {
            "entries": page[: queries.PAGE],
            "form": form,
            "filtered": bool(asked),
            "newest": "?" + urlencode(asked),
            "older": (
                "?" + urlencode({**asked, "before": page[queries.PAGE - 1].index})
                if len(page) > queries.PAGE
                else ""
            ),
            "paged": key is not None,
            "checkpoint": Checkpoint.objects.first(),
            "log_key": log.verifier_key(),
            "can_export": permissions.can_export(user),
        },
    )


@login_required
def entry(request: HttpRequest, index: int) -> HttpResponse:
    """One entry: what it says, every check, raw evidence, its proof, and the enclave's earlier evidence."""
    user = _reader(request)
    found = get_object_or_404(permissions.log_visible_to(user).select_related("study"), pk=index)
    appraisal = AppraisalRecord.objects.select_related("site", "run", "log_entry").filter(log_entry=found)
    judged = appraisal.first()
    earlier = queries.earlier_of_same_enclave(judged) if judged else None
    named = parse_entry(found.data.encode()).attachments if _readable(found) else ()
    kept = {row.pk: row for row in StoredEvidence.objects.filter(pk__in=named)}
    raw = [
        {"row": kept[name], "allowed": permissions.can_download(user, found, kept[name])}
        for name in named
        if name in kept
    ]
    return render(
        request,
        "frontend/log/entry.html",
        {
            "entry": found,
            "pretty": _pretty(found),
            "appraisal": judged,
            "earlier": earlier,
            "lines": compare(earlier, judged) if judged and earlier else [],
            "facts": _failed(judged),
            "raw": raw,
            "proof": prove(found),
            "sites": [mention.site for mention in found.mentions.select_related("site")],
        },
    )


@login_required
def raw(request: HttpRequest, index: int, sha256: str) -> HttpResponse:
    """A raw thing that an entry names. A quote holds the platform's name (PPID): who fetched one is kept."""
    user = _reader(request)
    found = get_object_or_404(permissions.log_visible_to(user), pk=index)
    if sha256 not in parse_entry(found.data.encode()).attachments:
        raise Http404
    kept = get_object_or_404(StoredEvidence, pk=sha256)
    if not permissions.can_download(user, found, kept):
        raise PermissionDenied
    if kept.kind in permissions.PLATFORM_NAMING:
        record(user, "evidence.downloaded", f"log:{index}", kind=kept.kind, sha256=sha256)
    suffix = "bin" if kept.kind == "quote" else "json"
    response = HttpResponse(bytes(kept.data), content_type="application/octet-stream")
    response["Content-Disposition"] = f'attachment; filename="{kept.kind}-{sha256[:16]}.{suffix}"'
    return response


@login_required
@require_POST
def export(request: HttpRequest) -> HttpResponse | FileResponse:
    """The log, or the entries `first` to `last`, as a bundle that anyone can check offline."""
    user = person(request)
    if not permissions.can_export(user):
        raise PermissionDenied
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bundle.zip"
        try:
            first, last = _range(request)
            bundles.export(user, path, first=first, last=last)
        except Refusal as refusal:
            words = explain(refusal.code, refusal.facts)
            messages.error(request, f"{words.message} {words.hint} [{words.code}]")
            return redirect("log")
        # The open file outlives its folder, and goes when it has been sent.
        file = path.open("rb")
    return FileResponse(file, as_attachment=True, filename=f"fedslice-log-{first}-{last}.zip")


def _range(request: HttpRequest) -> tuple[int, int]:
    """What was asked for, the whole log by default.

    Raises: `log.bad_range` or `bundle.too_long`.
    """
    size = log.size()
    ends = []
    for name, default in (("first", 0), ("last", size - 1)):
        text = request.POST.get(name, "").strip()
        if text and not text.isdecimal():
            raise Refusal("log.bad_range", size=size, asked=text[:20])
        ends.append(int(text[:18]) if text else default)
    first, last = ends
    if last >= size:
        raise Refusal("log.bad_range", size=size, asked=last)
    if last - first >= IN_BROWSER:
        raise Refusal("bundle.too_long", limit=IN_BROWSER, asked=last - first + 1)
    return first, last


def _readable(found: LogEntry) -> bool:
    try:
        parse_entry(found.data.encode())
    except Refusal:
        return False
    return True


def _pretty(found: LogEntry) -> str:
    try:
        return json.dumps(json.loads(found.data), indent=2, ensure_ascii=False, sort_keys=True)
    except ValueError:
        return found.data


def _failed(judged: AppraisalRecord | None) -> dict[str, str]:
    """The values of the check that failed, for the words of its code."""
    failed = [check for check in judged.checks if check["outcome"] == "fail"] if judged else []
    return {"expected": failed[0]["expected"], "found": failed[0]["found"]} if failed else {}
