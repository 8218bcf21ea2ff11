"""Proofs that what a site relies on stands in the log: for the members of a run, about that run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from contracts.log import growth
from contracts.log.checkpoint import verify_cosignatures
from contracts.log.note import NoteKey, parse_vkey
from contracts.log.proof import Logged
from contracts.refusal import Refusal
from federation.attestation import log
from federation.attestation.models import Checkpoint, LogEntry
from federation.sites.models import Site
from federation.studies.models import Approval
from transparency_log.entry import APPRAISAL, LeafEntry

MANIFEST, ROSTER_FIXED = "manifest", "roster.fixed"
KINDS = (MANIFEST, ROSTER_FIXED, APPRAISAL)
"""What agents ask for: the manifest before they approve, an appraisal before they seal, a roster before they
countersign."""


def prove(
    site: Site, kind: str, manifest_hash: str, *, key: str | None = None, round: int | None = None
) -> Logged:
    """The newest entry of this kind about the manifest's run, and its proof.

    Raises: `request.not_found` where the site is no member, `log.not_logged`, or `log.not_cosigned` while a
    witness of the manifest has not signed a checkpoint that covers it.
    """
    approval = Approval.objects.filter(site=site, manifest_hash=manifest_hash).select_related("study").first()
    if approval is None or kind not in KINDS:
        raise Refusal("request.not_found")
    row = _newest(kind, approval.study_id, manifest_hash, key, round)
    if row is None:
        raise Refusal("log.not_logged", kind=kind)
    head = _checkpoint(row.index, _witnesses(approval.study_id, manifest_hash))
    proof = growth.inclusion_proof(log.DatabaseStore(), row.index, head.size)
    return Logged(row.data, row.index, head.note, tuple(value.hex() for value in proof))


def _newest(kind: str, study: str, manifest_hash: str, key: str | None, round: int | None) -> LogEntry | None:
    rows = LogEntry.objects.filter(kind=kind, study_id=study).order_by("-index")
    if kind == APPRAISAL:
        rows = rows.filter(verdict="accepted")
    for row in rows.iterator(chunk_size=100):
        body = msgspec.json.decode(row.data, type=LeafEntry).body
        claims, roster = body.get("claims") or {}, body.get("roster") or {}
        named: dict[str, Any] = {
            MANIFEST: (body.get("manifest"), key, round),
            ROSTER_FIXED: (roster.get("manifest"), key, roster.get("round")),
            APPRAISAL: (claims.get("manifest"), claims.get("signing_key"), round),
        }
        if named[kind] == (manifest_hash, key, round):
            return row
    return None


def _witnesses(study: str, manifest_hash: str) -> list[NoteKey]:
    row = LogEntry.objects.filter(kind=MANIFEST, study_id=study).order_by("-index")
    for entry in row:
        body = msgspec.json.decode(entry.data, type=LeafEntry).body
        if body.get("manifest") == manifest_hash:
            return [parse_vkey(witness) for witness in body.get("witnesses") or ()]
    return []


def _checkpoint(index: int, witnesses: Sequence[NoteKey]) -> Checkpoint:
    """The newest that covers the entry and has all cosignatures."""
    if not witnesses:
        return log.checkpoint()
    log.checkpoint()  # so that there is one to cosign
    for row in Checkpoint.objects.filter(size__gt=index).order_by("-size"):
        cosigned = verify_cosignatures(row.note, witnesses)
        if all(witness.name in cosigned for witness in witnesses):
            return row
    raise Refusal("log.not_cosigned", witness=witnesses[0].name)
