"""The receipts that this site has seen: the last one decides what may come next, also after a restart.

Inside its enclave the client slice checks who signed a receipt. Here, outside, the site keeps every receipt
that reached it, and refuses to go on when the coordinator shows another past than before.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from contracts.manifest import Manifest
from contracts.receipts import NO_RECEIPT, SignedReceipt, parse_receipt, receipt_hash
from contracts.refusal import Refusal
from site_agent.files import create_private


class ReceiptBook:
    """The receipts of one run, a file for each round."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._folder = folder / manifest.hash
        self._manifest = manifest

    def last(self) -> SignedReceipt | None:
        """The receipt of the latest round that was seen, or None."""
        rounds = sorted(int(path.stem) for path in self._folder.glob("*.json"))
        return self._read(rounds[-1]) if rounds else None

    @property
    def last_hash(self) -> str:
        """Its hash; NO_RECEIPT before the first."""
        last = self.last()
        return NO_RECEIPT if last is None else receipt_hash(last.receipt)

    def trust(self, signing_key: str) -> None:
        """This site has verified an enclave of the run that signs with this key (hex)."""
        create_private(self._folder / f"{signing_key}.signer", b"")

    def note_closing(self, given: Any) -> SignedReceipt:
        """As `note`, for the receipt that a served model stands on: no round follows that the site would
        countersign, so its signer must be one that was verified here. Refuses also with
        `receipt.not_ours`."""
        signed = parse_receipt(given)
        if not (self._folder / f"{signed.signing_key}.signer").exists():
            fault = "its enclave was never verified here"
            raise Refusal("receipt.not_ours", round=signed.receipt.round, fault=fault)
        return self.note(given, before=signed.receipt.round + 1)

    def note(self, given: Any, *, before: int) -> SignedReceipt:
        """Check a receipt (decoded JSON) that a job of round `before` continues, and keep it.

        Its signature holds, it is of this run and of an earlier round, it is the one that was seen for its
        round if one was, it is not older than the last, and where it follows the last directly it names it.
        Refuses with `receipt.not_ours`, `receipt.fork`, `receipt.invalid` or `sealing.bad_signature`.
        """
        signed = parse_receipt(given)
        receipt = signed.receipt
        last = self.last()
        faults = {
            "it belongs to another run": (receipt.manifest, receipt.run)
            != (self._manifest.hash, self._manifest.run),
            "it is not of an earlier round": receipt.round >= before,
            "it is older than the last one seen": last is not None and receipt.round < last.receipt.round,
        }
        for fault, found in faults.items():
            if found:
                raise Refusal("receipt.not_ours", round=receipt.round, fault=fault)
        if last is not None:
            known, offered = receipt_hash(last.receipt), receipt_hash(receipt)
            same_round = receipt.round == last.receipt.round and offered != known
            next_round = receipt.round == last.receipt.round + 1 and receipt.previous != known
            if same_round or next_round:
                raise Refusal("receipt.fork", round=receipt.round)
        path = self._folder / f"{receipt.round}.json"
        if not create_private(path, msgspec.json.encode(signed)) and self._read(receipt.round) != signed:
            raise Refusal("receipt.fork", round=receipt.round)
        return signed

    def _read(self, round: int) -> SignedReceipt:
        path = self._folder / f"{round}.json"
        try:
            return parse_receipt(path.read_bytes())
        except Refusal as error:
            raise Refusal("agent.state_damaged", file=f"receipts/{path.parent.name}/{path.name}") from error
