"""What a log entry is about, for searching: its study and sites, and the verdict of an appraisal.

Read from the entry itself, so that the index can be made again from the log at any time; studies are found by
the manifest's hash. None of it is part of the leaf.
"""

from __future__ import annotations

from typing import Any

from federation.sites.models import Site
from federation.studies.models import Approval, Study
from transparency_log.entry import LeafEntry


def search_columns(entry: LeafEntry) -> dict[str, Any]:
    """The values of LogEntry's columns for searching."""
    body = entry.body
    appraisal = _mapping(body.get("appraisal"))
    program = _mapping(body.get("claims")).get("program") or _mapping(body.get("values")).get("program")
    released = _mapping(_mapping(body.get("release")).get("released"))
    program = program or _mapping(body.get("receipt")).get("program") or body.get("program")
    program = program or released.get("program")
    return {
        "study_id": _study(entry),
        "program": _short(program, 32),
        "verdict": _short(appraisal.get("verdict"), 16),
        "code": _short(appraisal.get("code"), 64),
    }


def sites_in(entry: LeafEntry) -> list[str]:
    """The ids of the sites that it tells of, in order; only of those that there are."""
    body = entry.body
    roster = _mapping(body.get("roster"))
    receipt = _mapping(body.get("receipt"))
    listed = [*_listed(roster.get("inputs")), *_listed(receipt.get("inputs")), *_listed(body.get("sites"))]
    listed += list(_mapping(body.get("release_approvals")))
    named = [item.get("site") if isinstance(item, dict) else item for item in listed]
    named += [body.get("site"), body.get("subject") if entry.kind == "appraisal" else None]
    wanted = {name for name in named if isinstance(name, str)}
    return sorted(Site.objects.filter(pk__in=wanted).values_list("pk", flat=True)) if wanted else []


def manifest_in(entry: LeafEntry) -> str | None:
    """The hash of the manifest that it names, wherever its kind has it."""
    body = entry.body
    released = _mapping(_mapping(body.get("release")).get("released"))
    places = (body, *(_mapping(body.get(name)) for name in ("claims", "roster", "receipt")), released)
    return next((place["manifest"] for place in places if isinstance(place.get("manifest"), str)), None)


def _study(entry: LeafEntry) -> str | None:
    if isinstance(entry.body.get("study"), str):
        return Study.objects.filter(pk=entry.body["study"]).values_list("pk", flat=True).first()
    manifest = manifest_in(entry)
    if manifest is None:
        return None
    return Approval.objects.filter(manifest_hash=manifest).values_list("study_id", flat=True).first()


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _short(value: Any, limit: int) -> str:
    return value[:limit] if isinstance(value, str) else ""
