"""A run's receipts as they are read outside of enclaves: one alone, and all of a run in their order.

An enclave makes receipts and names the last one (contracts/receipts.py); that a chain holds is judged by the
coordinator, the sites' agents and auditors. docs/protocol.md specifies it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from contracts.best import best_after
from contracts.course import may_follow
from contracts.manifest import Manifest
from contracts.receipts import NO_RECEIPT, Receipt, SignedReceipt, verify_receipt
from contracts.refusal import Refusal
from contracts.round_kind import kind_of
from contracts.strict_reading import read_strictly

MAX_RECEIPT_BYTES = 1 << 20


def parse_receipt(data: bytes | SignedReceipt | dict[str, Any]) -> SignedReceipt:
    """Read a signed receipt (JSON bytes or decoded JSON) strictly, and verify its signature."""
    signed = read_strictly(data, SignedReceipt, code="receipt.invalid", limit=MAX_RECEIPT_BYTES)
    verify_receipt(signed)
    return signed


def verify_chain(
    receipts: Sequence[SignedReceipt],
    *,
    manifest: str | None = None,
    attested: Collection[str] | None = None,
    after: str = NO_RECEIPT,
) -> str:
    """Check a run's receipts in order, from the first on or from the one that follows the receipt with the
    hash `after`; returns the hash of the last (`after` if there are none).

    1. every signature holds, and its key is one of `attested` (keys of accepted evidence) where that is given
    2. every receipt names the same manifest (`manifest` where given), run, program and development mark
    3. each names the one before it, and rounds grow; a round that was abandoned may be missing
    4. the signing key and measurement change exactly where `restarts` grows
    5. no site's count of instances falls, and the features that it is held to stay the same
    6. once scores were published, they stay those of one set of sites

    Raises: `receipt.invalid`, `sealing.bad_signature` or `receipt.chain_broken`.
    """
    last: SignedReceipt | None = None
    previous = after
    for signed in receipts:
        name, receipt = verify_receipt(signed), signed.receipt
        for fault, found in _faults(signed, last, previous, manifest, attested).items():
            if found:
                raise Refusal("receipt.chain_broken", round=receipt.round, fault=fault)
        last, previous = signed, name
    return previous


def course_fault(manifest: Manifest, before: Receipt | None, receipt: Receipt) -> str | None:
    """What is wrong with a receipt's place in its run, after the one that it names; None where nothing is."""
    kind = kind_of(manifest, receipt.round)
    withheld = receipt.scoring is None or receipt.scoring.withheld is not None
    scores = {"pooled", "test"}.intersection(receipt.metrics)
    loss = receipt.metrics.get("pooled", {}).get("loss")
    loss = loss if isinstance(loss, int | float) else None
    faults = {
        "the run has no such round": not may_follow(manifest, before, receipt.round),
        "it tells scores of other rows": not scores <= {"test" if kind == "test" else "pooled"},
        "it tells scores that it withholds": withheld and bool(scores),
        "it names another best round": receipt.best
        != best_after(kind, before, receipt.previous, loss, withheld=withheld),
        "it makes other parameters than its round does": (receipt.averaging is not None) and kind != "update",
    }
    return next((fault for fault, found in faults.items() if found), None)


def _faults(
    signed: SignedReceipt,
    last: SignedReceipt | None,
    previous: str,
    manifest: str | None,
    attested: Collection[str] | None,
) -> dict[str, bool]:
    receipt = signed.receipt
    faults = {
        "it names another previous receipt": receipt.previous != previous,
        "it belongs to another manifest": manifest is not None and receipt.manifest != manifest,
        "its signing key was never attested": attested is not None and signed.signing_key not in attested,
    }
    if last is not None:
        before = last.receipt
        restarted = receipt.restarts > before.restarts
        faults |= {
            "it belongs to another run": (receipt.manifest, receipt.run) != (before.manifest, before.run),
            "it comes from another program": receipt.program != before.program,
            "its pooled scores are of another set of sites": _scored(before) not in ((), _scored(receipt)),
            "a site's client slice has begun less often than before": not _begun(before) <= _begun(receipt),
            "a site's features are others than before": bool(_held(before) - _held(receipt)),
            "the development mark changed": receipt.development != before.development,
            "its round is not later than the one before": receipt.round <= before.round,
            "the number of restarts went back": receipt.restarts < before.restarts,
            "the signing key changed without a restart": not restarted
            and signed.signing_key != last.signing_key,
            "a restart kept the signing key": restarted and signed.signing_key == last.signing_key,
            "the measurement changed without a restart": not restarted
            and receipt.measurement != before.measurement,
        }
    return faults


def _scored(receipt: Receipt) -> tuple[str, ...]:
    return () if receipt.scoring is None else receipt.scoring.sites


def _held(receipt: Receipt) -> set[tuple[str, str]]:
    return {(count.site, count.features) for count in receipt.instances if count.features is not None}


def _begun(receipt: Receipt) -> Counter[str]:
    return Counter({count.site: count.begun for count in receipt.instances})
