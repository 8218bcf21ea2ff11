"""What a client slice believes about the rounds before: receipts, and who may speak for them.

A sealed next state is trained on only if a receipt names it and an admitted aggregator stands behind that
receipt: by its signature on the receipt, or, for a client slice that came later or an aggregator that was
restarted, by a signed *reissue* of the same state.
"""

from __future__ import annotations

from collections.abc import Collection

from contracts.previous import Previous
from contracts.receipts import NO_RECEIPT, Receipt, receipt_hash, verify_receipt
from contracts.refusal import Refusal
from contracts.reissue import REISSUE_DOMAIN
from contracts.signing import verify
from enclave.programs.identity import Identity


class History:
    """The last receipt that this client slice has used. It never goes back, and never to another past."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._last: Receipt | None = None

    @property
    def last_hash(self) -> str:
        """Hash of the last receipt that was used; NO_RECEIPT before the first."""
        return NO_RECEIPT if self._last is None else receipt_hash(self._last)

    def check(self, previous: Previous, *, round: int, attested: Collection[str]) -> str:
        """Decide whether `round` may continue `previous`; returns the signing key that must have sealed it.

        1. the receipt's signature holds, and it is an aggregator's, of this run
        2. an attested key stands behind it: the receipt's own, or that of a reissue
        3. the file is the one that the receipt, or the reissue, names
        4. it is of an earlier round than `round`, and of the same past as the last receipt used here

        Nothing is remembered.

        Raises: `round.wrong_receipt`, `receipt.invalid` or `sealing.bad_signature`.
        """
        verify_receipt(previous.receipt)
        receipt = previous.receipt.receipt
        identity = self._identity
        if (receipt.manifest, receipt.run) != (identity.manifest_hash, identity.manifest.run):
            raise _wrong(round, "it belongs to another run")
        if receipt.program != "aggregator":
            raise _wrong(round, "it is not an aggregator's")
        sealer, output = self._spokesman(previous, round)
        if sealer not in attested:
            raise _wrong(round, "no admitted aggregator stands behind it")
        if output != previous.sha256:
            raise _wrong(round, "it names another file")
        if receipt.round >= round:
            raise _wrong(round, "it is not of an earlier round")
        self._check_past(receipt, round)
        return sealer

    def check_beginning(self, round: int) -> None:
        """A round that continues nothing is refused with `round.wrong_receipt` once a receipt was used."""
        if self._last is not None:
            raise _wrong(round, "an earlier receipt was used here")

    def remember(self, receipt: Receipt) -> None:
        """Called when the state of a checked receipt was opened."""
        self._last = receipt

    def _spokesman(self, previous: Previous, round: int) -> tuple[str, str | None]:
        signed = previous.reissue
        if signed is None:
            return previous.receipt.signing_key, previous.receipt.receipt.output
        verify(signed.signing_key, REISSUE_DOMAIN, signed.reissue, signed.signature)
        named = (self._identity.manifest_hash, receipt_hash(previous.receipt.receipt))
        if (signed.reissue.manifest, signed.reissue.receipt) != named:
            raise _wrong(round, "the reissue belongs to another receipt")
        return signed.signing_key, signed.reissue.output

    def _check_past(self, receipt: Receipt, round: int) -> None:
        last = self._last
        if last is None:
            return
        if receipt.round < last.round:
            raise _wrong(round, "it is older than the last one used here")
        if receipt.round == last.round and receipt_hash(receipt) != receipt_hash(last):
            raise _wrong(round, "there are two of that round")
        # A site may have missed rounds; what it can check is that the next round names what it has seen.
        if receipt.round == last.round + 1 and receipt.previous != receipt_hash(last):
            raise _wrong(round, "it names another past")


def _wrong(round: int, fault: str) -> Refusal:
    return Refusal("round.wrong_receipt", round=round, fault=fault)
