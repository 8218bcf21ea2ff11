"""Logs as a coordinator that owns the log's key may tell them, and what `verify_bundle` says of each."""

from __future__ import annotations

from pathlib import Path

from contracts.canonical import canonical
from contracts.log import growth, merkle
from contracts.manifest import Manifest
from contracts.receipts import receipt_hash
from contracts.signing import SigningKey
from tests.log.conftest import (
    SITES,
    History,
    make_receipt,
    make_roster,
)
from tests.support.approvals import approve
from transparency_log.bundle import verify_bundle
from transparency_log.entry import (
    APPROVAL,
    RECEIPT,
    ROSTER,
    ApprovalBody,
)
from transparency_log.report import BundleReport


def checked(history: History, tmp_path: Path) -> BundleReport:
    return verify_bundle(history.write(tmp_path / "b.zip"), log_key=history.note_key)


def failed(report: BundleReport) -> set[str | None]:
    assert report.verdict == "failed", report.words("established")
    return {finding.code for finding in report.of("failed")}


def missing(report: BundleReport) -> set[str | None]:
    assert report.verdict == "incomplete", (report.words("failed"), report.words("established"))
    return {finding.code for finding in report.of("missing")}


def retold(old: History, order: list[int]) -> History:
    """The same log with only these entries, in this order, signed again by its own key."""
    new = History(key=old.key, things=dict(old.things), enclave=old.enclave, manifest=old.manifest)
    for number, index in enumerate(order):
        growth.append(new.store, number, merkle.leaf_hash(old.leaves[index]))
        new.leaves.append(old.leaves[index])
    return new


def begun(manifest: Manifest, **knows: tuple[str, ...]) -> History:
    """A log in which every member has approved this run. Each has confirmed all, or those it `knows`."""
    new = History(manifest=manifest)
    new.keep(canonical(manifest))
    for site, key in SITES.items():
        given = approve(manifest.hash, site, key, knows.get(site, tuple(SITES)))
        new.append(APPROVAL, ApprovalBody(manifest.hash, site, given.confirmed, given.signature))
    return new


def goes_on(history: History, signer: SigningKey, number: int = 1, **changes: object) -> None:
    """One more countersigned round, with its receipt."""
    assert history.manifest is not None
    body = make_roster(history.manifest, number, history.last)
    history.append(ROSTER, body)
    receipt = make_receipt(history.manifest, body.roster, history.last, signer, **changes)
    history.append(RECEIPT, receipt)
    history.last = receipt_hash(receipt.receipt)
