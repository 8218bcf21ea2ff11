"""The cache of collateral, and the one door by which everybody here gets it.

A set is kept by the SHA-256 of its canonical JSON. Hardware's sets come from Intel's service or a cache of it
(pcs.py) or from a file; the development root's are made by ourselves and go through the same door.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from attestation.checks.examination import INTEL_ROOT_SHA256
from attestation.collateral import FIELDS
from attestation.development import collateral as development_collateral
from attestation.development import create_root, root_sha256
from attestation.platform_kind import platform_kind
from contracts.canonical import canonical, digest
from contracts.refusal import Refusal
from federation.attestation.collateral_facts import CollateralFacts, examine
from federation.attestation.collateral_files import read_file
from federation.attestation.models import CollateralSet, PlatformKind, Root
from federation.audit.services import record

MAX_PLATFORM_KINDS = 512
OURS = "this installation's development root"


def take(fields: dict[str, str], *, source: str, at: int) -> CollateralSet:
    """Check a set at Unix time `at` and put it in use for its kind of platform; the same again is no change.

    Raises: `collateral.stale`, `collateral.older` (it goes back behind the one in use), or the verifier's
    codes.
    """
    fields = {name: value for name, value in fields.items() if name in FIELDS}
    facts = examine(fields, _accepted_roots(), at)
    with transaction.atomic():
        known = CollateralSet.objects.filter(pk=digest(fields)).first()
        used = _in_use(_root_of(facts), facts.tee, facts.fmspc, facts.ca)
        if used is not None and used.pk != digest(fields) and _older(facts, used):
            raise Refusal("collateral.older", tee=facts.tee, fmspc=facts.fmspc, ca=facts.ca)
        if known is not None:
            return known
        try:
            with transaction.atomic():
                return CollateralSet.objects.create(**_row(fields, facts, source))
        except IntegrityError:  # somebody was faster with the same bytes
            return CollateralSet.objects.get(pk=digest(fields))


def for_platform(root: str, tee: str, fmspc: str, ca: str, at: int) -> dict[str, str]:
    """The set in use for a kind of hardware platform. One that is not there is fetched at the next refresh.

    Raises: `collateral.none`, or `collateral.stale`: with stale collateral no key is released.
    """
    row = _in_use(root, tee, fmspc, ca)
    if row is None:
        want(tee, fmspc, ca)
        raise Refusal("collateral.none", tee=tee, fmspc=fmspc, ca=ca)
    ended = min(row.parts, key=lambda part: part["end"])
    if at >= ended["end"]:
        raise Refusal("collateral.stale", part=ended["name"], expired=ended["end"], at=at)
    return fields_of(row)


def for_quote(quote: bytes, root: str, at: int) -> dict[str, str]:
    """The set to judge this quote by. Development quotes get the development root's.

    Nothing of the quote is believed by this: its PCK certificate only says which family of platforms to
    look up, and the verifier checks that the set fits.

    Raises: as `for_platform`, or `attest.*` for a quote that cannot be read.
    """
    kind = platform_kind(quote)
    if root == Root.DEVELOPMENT:
        return development(kind.tee, at)
    return for_platform(root, *kind, at)


def development(tee: str, at: int) -> dict[str, str]:
    """The development root's set for `at`; the cache keeps the newest, for the calendar."""
    create_root(settings.DEVELOPMENT_ROOT_DIR)
    fields = development_collateral(settings.DEVELOPMENT_ROOT_DIR, at, "tdx" if tee == "tdx" else "sgx")
    if not CollateralSet.objects.filter(pk=digest(fields)).exists():
        _keep_own(fields, at)
    return fields


def only_one(root: str, tee: str, at: int) -> dict[str, str]:
    """The set in use where the cache knows one kind of platform for this TEE.

    Raises: `collateral.none` where it knows none or several, `collateral.stale`.
    """
    kinds = list(
        CollateralSet.objects.filter(root=root, tee=tee)
        .order_by("fmspc", "ca")
        .values_list("fmspc", "ca")
        .distinct()[:2]
    )
    if len(kinds) != 1:
        raise Refusal("collateral.none", tee=tee)
    return for_platform(root, tee, *kinds[0], at)


def import_file(path: Path, at: int) -> CollateralSet:
    """Take a set from a file, where there is no way out to Intel's service.

    Raises: as `take` does, or `collateral.unreadable`.
    """
    row = take(read_file(path), source=f"file {path.name}"[:300], at=at)
    if row.root == Root.INTEL:
        want(row.tee, row.fmspc, row.ca)
    record(None, "collateral.imported", f"collateral:{row.pk}", tee=row.tee, fmspc=row.fmspc, ca=row.ca)
    return row


def want(tee: str, fmspc: str, ca: str) -> None:
    """Remember a kind of hardware platform, so that the refresh fetches for it."""
    if PlatformKind.objects.count() < MAX_PLATFORM_KINDS:
        PlatformKind.objects.get_or_create(tee=tee, fmspc=fmspc, ca=ca)


def in_use() -> list[CollateralSet]:
    """For each kind of platform the set in use, the one that ends first first."""
    newest: dict[tuple[str, ...], CollateralSet] = {}
    for row in CollateralSet.objects.defer("data").order_by("fetched_at"):
        newest[row.root_sha256, row.tee, row.fmspc, row.ca] = row
    return sorted(newest.values(), key=lambda row: row.expires)


def forget_superseded() -> int:
    """Drop sets that a newer one replaced and that have ended. What judged evidence is kept with the log."""
    kept = [row.pk for row in in_use()]
    gone = CollateralSet.objects.exclude(pk__in=kept).filter(expires__lt=timezone.now())
    return gone.delete()[0]


def fields_of(row: CollateralSet) -> dict[str, str]:
    """The row as the verifier reads it."""
    return msgspec.json.decode(bytes(row.data), type=dict[str, str])


def _keep_own(fields: dict[str, str], at: int) -> None:
    facts = examine(fields, {root_sha256(settings.DEVELOPMENT_ROOT_DIR)}, at)
    with transaction.atomic():
        same = {"root": Root.DEVELOPMENT, "tee": facts.tee, "fmspc": facts.fmspc, "ca": facts.ca}
        row = _row(fields, facts, OURS)
        CollateralSet.objects.get_or_create(pk=row.pop("sha256"), defaults=row)
        # We can make them again at any time.
        CollateralSet.objects.filter(**same).exclude(pk=digest(fields)).delete()


def _in_use(root: str, tee: str, fmspc: str, ca: str) -> CollateralSet | None:
    rows = CollateralSet.objects.filter(root=root, tee=tee, fmspc=fmspc, ca=ca)
    return rows.order_by("-fetched_at").first()


def _older(facts: CollateralFacts, used: CollateralSet) -> bool:
    """Whether it goes back in any number, or was issued before with none that is higher."""
    names = ("tcb_evaluation", "qe_evaluation", "root_ca_crl_number", "pck_crl_number")
    if any(getattr(facts, name) < getattr(used, name) for name in names):
        return True
    same = all(getattr(facts, name) == getattr(used, name) for name in names)
    return same and facts.expires < int(used.expires.timestamp())


def _row(fields: dict[str, str], facts: CollateralFacts, source: str) -> dict[str, Any]:
    return {
        "sha256": digest(fields),
        "root": _root_of(facts),
        "root_sha256": facts.root_sha256,
        "tee": facts.tee,
        "fmspc": facts.fmspc,
        "ca": facts.ca,
        "data": canonical(fields),
        "parts": [asdict(part) for part in facts.parts],
        "issued": datetime.fromtimestamp(facts.issued, UTC),
        "expires": datetime.fromtimestamp(facts.expires, UTC),
        "tcb_evaluation": facts.tcb_evaluation,
        "qe_evaluation": facts.qe_evaluation,
        "root_ca_crl_number": facts.root_ca_crl_number,
        "pck_crl_number": facts.pck_crl_number,
        "source": source[:300],
    }


def _root_of(facts: CollateralFacts) -> Root:
    return Root.INTEL if facts.root_sha256 == INTEL_ROOT_SHA256 else Root.DEVELOPMENT


def _accepted_roots() -> set[str]:
    create_root(settings.DEVELOPMENT_ROOT_DIR)
    return {INTEL_ROOT_SHA256, root_sha256(settings.DEVELOPMENT_ROOT_DIR)}
