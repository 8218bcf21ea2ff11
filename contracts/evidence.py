"""What an attester hands over (RFC 9334 *evidence*), and the 64 bytes by which a quote binds its claims.

The quote is signed by hardware and carries only 64 free bytes, `report_data`. They are a hash of the claims:
the relying party's nonce, the enclave's keys, the manifest and the program. Whoever trusts the quote thereby
trusts these keys, for this run, now.
"""

from __future__ import annotations

import hashlib
from typing import Annotated

from msgspec import Meta, Struct

from contracts.canonical import canonical
from contracts.policy import Hex32, Program

REPORT_DOMAIN = b"fedslice/report-data/v1"

MAX_EVENT_LOG = 8192

EventLog = Annotated[str, Meta(max_length=MAX_EVENT_LOG)]
HpkeKeyHex = Annotated[str, Meta(pattern=r"^([0-9a-f]{2})+\Z", max_length=8192)]


class Claims(Struct, frozen=True, forbid_unknown_fields=True):
    """What `report_data` binds: `hpke_key` (hex) opens envelopes, `signing_key` (Ed25519) signs receipts."""

    nonce: Hex32
    hpke_key: HpkeKeyHex
    signing_key: Hex32
    manifest: Hex32
    program: Program


class Evidence(Struct, frozen=True, forbid_unknown_fields=True):
    """Quote, the collateral to judge it by, and the claims it binds. In JSON the quote is base64.

    `collateral` has the fields of Intel's QuoteCollateralV3 (see `attestation/collateral.py`). `event_log`
    says what was started in a trust domain (contracts/launch.py).
    """

    quote: bytes
    collateral: dict[str, str]
    claims: Claims
    event_log: EventLog | None = None


class Expected(Struct, frozen=True, forbid_unknown_fields=True):
    """What the relying party knows before it looks at evidence: its own fresh nonce, its manifest's hash, and
    the program it wants to talk to. The keys are not expected: the quote proves them."""

    nonce: Hex32
    manifest: Hex32
    program: Program


def report_data(claims: Claims) -> bytes:
    """The 64 bytes that a quote must carry for these claims: SHA-512(domain ‖ 0x00 ‖ canonical(claims))."""
    return hashlib.sha512(REPORT_DOMAIN + b"\x00" + canonical(claims)).digest()
