"""What a server's enclave signs of a run; clients only verify it."""

from __future__ import annotations

from contracts.receipts import RECEIPT_DOMAIN, Receipt, SignedReceipt, checked
from contracts.reissue import REISSUE_DOMAIN, Reissue, SignedReissue
from contracts.signing import SigningKey


def sign_receipt(receipt: Receipt, signer: SigningKey) -> SignedReceipt:
    """Sign inside the enclave.

    Raises: `receipt.invalid` where the receipt breaks its own rules.
    """
    parsed, data = checked(receipt)
    return SignedReceipt(parsed, signer.public, signer.sign(RECEIPT_DOMAIN, data))


def sign_reissue(reissue: Reissue, signer: SigningKey) -> SignedReissue:
    """Inside the aggregator."""
    return SignedReissue(reissue, signer.public, signer.sign(REISSUE_DOMAIN, reissue))
