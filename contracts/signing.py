"""Ed25519 signatures (RFC 8032) over canonical JSON, separated by domain.

The signed message is `domain ‖ 0x00 ‖ canonical(payload)`. A domain names one kind of statement and its
version ("fedslice/receipt/v1"), so a signature for one purpose never passes for another. Keys and signatures
travel as lower-case hex, and only in that one spelling.
"""

from __future__ import annotations

import re
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from contracts.canonical import canonical
from contracts.refusal import Refusal

_PUBLIC = re.compile(r"[0-9a-f]{64}")
_SIGNATURE = re.compile(r"[0-9a-f]{128}")
_DOMAIN = re.compile(r"[a-z0-9/.-]+")


def message(domain: str, payload: Any) -> bytes:
    """The bytes that are signed: `domain ‖ 0x00 ‖ canonical(payload)`. A payload of bytes is canonical
    already."""
    if not _DOMAIN.fullmatch(domain):
        raise ValueError(f"not a signature domain: {domain!r}")
    return domain.encode() + b"\0" + (payload if isinstance(payload, bytes) else canonical(payload))


class SigningKey:
    """A private Ed25519 key. It is drawn and used on one side of a trust boundary and never crosses it."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self.private = key
        self.public: str = key.public_key().public_bytes_raw().hex()

    @classmethod
    def generate(cls) -> SigningKey:
        """A new key from the operating system's randomness."""
        return cls(Ed25519PrivateKey.generate())

    def sign(self, domain: str, payload: Any) -> str:
        """The signature in hex (128 characters). `payload` is a JSON value or a msgspec Struct."""
        return self.sign_bytes(message(domain, payload)).hex()

    def sign_bytes(self, data: bytes) -> bytes:
        """The raw signature over bytes that another specification defines (C2SP signed notes)."""
        return self.private.sign(data)


def verify(public: str, domain: str, payload: Any, signature: str) -> None:
    """Check `signature` by the key `public` (both hex) over `payload` under `domain`.

    Raises: `sealing.bad_signature`, whatever is wrong.
    """
    if not _SIGNATURE.fullmatch(signature):
        raise Refusal("sealing.bad_signature")
    verify_bytes(public, message(domain, payload), bytes.fromhex(signature))


def verify_bytes(public: str, data: bytes, signature: bytes) -> None:
    """Check a raw signature over `data`.

    Raises: `sealing.bad_signature`.
    """
    if not _PUBLIC.fullmatch(public):
        raise Refusal("sealing.bad_signature")
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(signature, data)
    except (InvalidSignature, ValueError) as error:
        raise Refusal("sealing.bad_signature") from error
