"""The aggregator's word that it has sealed the same parameters again: for a client slice that came later, or
after it was restarted."""

from __future__ import annotations

from msgspec import Struct

from contracts.policy import Hex32
from contracts.receipts import Hex64

REISSUE_DOMAIN = "fedslice/reissue/v1"


class Reissue(Struct, forbid_unknown_fields=True, frozen=True):
    """The aggregator's word that `output` (SHA-256 of a sealed stream) holds the same parameters as the
    output of the receipt with hash `receipt`, sealed again for the client slices that are admitted now."""

    manifest: Hex32
    receipt: Hex32
    output: Hex32


class SignedReissue(Struct, forbid_unknown_fields=True, frozen=True):
    """A reissue with the attested Ed25519 key that signed it, and the signature, in hex."""

    reissue: Reissue
    signing_key: Hex32
    signature: Hex64
