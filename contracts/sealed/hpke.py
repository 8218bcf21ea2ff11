"""HPKE (RFC 9180, base mode) with the hybrid KEM MLKEM768-X25519, HKDF-SHA-256 and AES-256-GCM.

It wraps short secrets (data keys) for one receiver. Base mode authenticates nobody: what is wrapped here
travels only inside something signed (contracts/sealed/stream.py). A public key is written by its components,
ML-KEM-768 encapsulation key (1184 bytes) ‖ X25519 public key (32 bytes), in lower-case hex.
"""

from __future__ import annotations

import re

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from contracts.refusal import Refusal

MLKEM_PUBLIC_BYTES = 1184
PUBLIC_BYTES = MLKEM_PUBLIC_BYTES + 32
WRAP_OVERHEAD = 1120 + 16  # encapsulated secret (ML-KEM ciphertext 1088 ‖ X25519 32) and the GCM tag

_SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_PUBLIC = re.compile(f"[0-9a-f]{{{2 * PUBLIC_BYTES}}}")


class HpkeKey:
    """A receiver's private key, drawn inside an enclave; it dies with it."""

    def __init__(self, mlkem: MLKEM768PrivateKey, x25519: X25519PrivateKey) -> None:
        self.private = mlkem, x25519
        self._key = MLKEM768X25519PrivateKey(mlkem, x25519)
        components = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
        self.public: str = components.hex()

    @classmethod
    def generate(cls) -> HpkeKey:
        """A new key from the operating system's randomness."""
        return cls(MLKEM768PrivateKey.generate(), X25519PrivateKey.generate())

    def unwrap(self, wrapped: bytes, info: bytes) -> bytes:
        """The secret that `wrap` put in under the same `info`.

        Raises: `sealing.refused`.
        """
        try:
            return _SUITE.decrypt(wrapped, self._key, info=info)
        except (InvalidTag, ValueError) as error:
            raise Refusal("sealing.refused") from error


def wrap(public: str, secret: bytes, info: bytes) -> bytes:
    """`secret` for the holder of `public` (hex), bound to `info`: len(secret) + WRAP_OVERHEAD bytes.

    Raises: `sealing.bad_key` where `public` is not a usable key.
    """
    if not _PUBLIC.fullmatch(public):
        raise Refusal("sealing.bad_key", kind="HPKE public key")
    raw = bytes.fromhex(public)
    try:
        key = MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(raw[:MLKEM_PUBLIC_BYTES]),
            X25519PublicKey.from_public_bytes(raw[MLKEM_PUBLIC_BYTES:]),
        )
        return _SUITE.encrypt(secret, key, info=info)
    except ValueError as error:
        # An ML-KEM coefficient beyond q, or an X25519 point of small order.
        raise Refusal("sealing.bad_key", kind="HPKE public key") from error
