"""How a manifest differs from the one that a hospital approved before."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Subquery
from django.db.models.functions import Coalesce, Now

from federation.attestation.models import StoredEvidence
from federation.frozen import Frozen, frozen
from federation.sites.models import Site
from federation.studies.models import Approval, Study
from federation.threads.queries import wished
from frontend.manifests import manifest_facts

ALWAYS_NEW = {"run"}


@dataclass(frozen=True)
class EarlierManifest:
    """What the hospital signed last, or wished to be changed (`wished`), as it stands beside the log."""

    study: Study
    frozen: Frozen
    signed_at: datetime | None
    same_study: bool
    wished: bool = False


@dataclass(frozen=True)
class Change:
    """One thing in both; empty where it was not, or is no more."""

    name: str
    before: str
    now: str


def earlier_approval(study: Study, site: Site) -> EarlierManifest | None:
    """What the hospital has decided before: its wish for changes or signature in this study, the later one;
    else its last signature in any."""
    wish = wished(study, site)
    if wish is not None and wish.manifest_hash == study.manifest_hash:
        wish = None
    mine = Approval.objects.filter(study=study, site=site, manifest_hash=study.manifest_hash)
    before = Coalesce(Subquery(mine.values("signed_at")[:1]), Now())
    signed = (
        Approval.objects.filter(site=site, signature__isnull=False, signed_at__lt=before)
        .exclude(manifest_hash=study.manifest_hash)
        .select_related("study")
        .order_by("-signed_at")
    )
    row = signed.filter(study=study).first() or (signed.first() if wish is None else None)
    if wish is not None and (row is None or row.signed_at is None or row.signed_at < wish.at):
        kept = StoredEvidence.objects.filter(pk=wish.manifest_hash).first()
        asked = Frozen(bytes(kept.data).decode(), wish.manifest_hash) if kept is not None else None
        return (
            EarlierManifest(study, asked, wish.at, same_study=True, wished=True)
            if asked is not None
            else None
        )
    # An approval is in the log with its manifest as an attachment, named by the very hash that was signed.
    kept = StoredEvidence.objects.filter(pk=row.manifest_hash).first() if row else None
    if row is None or kept is None:
        return None
    return EarlierManifest(
        row.study,
        Frozen(bytes(kept.data).decode(), row.manifest_hash),
        row.signed_at,
        row.study_id == study.pk,
    )


def fact_changes(before: EarlierManifest, study: Study) -> list[Change]:
    """Differences in the words of the page; none where one of the two is of an older format, which the page
    has no words for."""
    old, new = _facts(before.frozen), _facts(frozen(study))
    return _compare(old, new) if old and new else []


def field_changes(before: EarlierManifest, study: Study) -> list[Change]:
    """Differences field by field, so that nothing can hide behind words; the run's id is always new."""
    old, new = _flat(before.frozen.said), _flat(frozen(study).said)
    return [change for change in _compare(old, new) if change.name not in ALWAYS_NEW]


def _facts(found: Frozen) -> dict[str, str]:
    parts = manifest_facts(found.manifest) if found.manifest is not None else []
    return {f"{part['title']}: {fact[0]}": str(fact[1]) for part in parts for fact in part["facts"]}


def _flat(value: Any, path: str = "") -> dict[str, str]:
    if isinstance(value, dict) and value:
        parts = ((f"{path}.{name}" if path else str(name), item) for name, item in value.items())
    elif isinstance(value, list | tuple) and value:
        parts = ((f"{path}[{_label(item, number)}]", item) for number, item in enumerate(value))
    else:
        return {path: json.dumps(value, ensure_ascii=False)}
    return {name: text for key, item in parts for name, text in _flat(item, key).items()}


def _label(item: Any, number: int) -> str:
    """Members are told apart by their id, so that a new one does not shift all others."""
    return str(item["id"]) if isinstance(item, dict) and "id" in item else str(number)


def _compare(old: dict[str, str], new: dict[str, str]) -> list[Change]:
    names = [*new, *(name for name in old if name not in new)]
    return [
        Change(name, old.get(name, ""), new.get(name, "")) for name in names if old.get(name) != new.get(name)
    ]
