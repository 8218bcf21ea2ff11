"""Fingerprints of public keys, for people: short enough to be read out on the telephone and typed.

    Crockford base32( first 15 bytes of SHA-256( "fedslice/fingerprint/v1" ‖ 0x00 ‖ key ) ), in groups of four

Of a site the key is its agent's, followed by its approval key: 64 bytes.

Six groups are 120 bits: who wants another key under the same fingerprint has to make 2^120 of them. The
alphabet is Crockford's, without I, L, O and U; who types one of the first three means 1, 1 or 0.
"""

from __future__ import annotations

import base64
import hashlib

from contracts.refusal import Refusal

DOMAIN = b"fedslice/fingerprint/v1"
BYTES = 15
_RFC4648 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_SPELL = str.maketrans(_RFC4648, _CROCKFORD)
_HEARD = str.maketrans("OIL", "011")


def fingerprint(key: bytes) -> str:
    """Of a key's bytes: `7Q2M-90KD-…`, six groups of four."""
    short = hashlib.sha256(DOMAIN + b"\x00" + key).digest()[:BYTES]
    letters = base64.b32encode(short).decode().translate(_SPELL)
    return "-".join(letters[place : place + 4] for place in range(0, len(letters), 4))


def key_fingerprint(public: str) -> str:
    """Of an Ed25519 public key in hex."""
    return fingerprint(bytes.fromhex(public))


def site_fingerprint(public_key: str, approval_key: str) -> str:
    """Of a site: of its agent's key and its approval key (hex), the one after the other. Who compares it has
    compared both, and another of either is another site."""
    return fingerprint(bytes.fromhex(public_key) + bytes.fromhex(approval_key))


def typed_fingerprint(text: str) -> str:
    """What a person typed, as `fingerprint` spells it: case, spaces and hyphens do not matter.

    Raises: `fingerprint.malformed` for what is no fingerprint at all.
    """
    letters = "".join(text.upper().translate(_HEARD).replace("-", " ").split())
    if len(letters) != BYTES * 8 // 5 or not set(letters) <= set(_CROCKFORD):
        raise Refusal("fingerprint.malformed", found=text[:60])
    return "-".join(letters[place : place + 4] for place in range(0, len(letters), 4))
