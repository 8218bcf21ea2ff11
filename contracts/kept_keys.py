"""Private keys as bytes: for sites and the log, who keep theirs. An enclave's keys die with it, so no enclave
loads this."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from contracts.refusal import Refusal
from contracts.sealed.hpke import HpkeKey
from contracts.signing import SigningKey

SIGNING_SECRET_BYTES = 32
MLKEM_SEED_BYTES = 64
HPKE_SECRET_BYTES = MLKEM_SEED_BYTES + 32


def signing_key(secret: bytes) -> SigningKey:
    """The key with this 32-byte seed.

    Raises: `sealing.bad_key`.
    """
    if len(secret) != SIGNING_SECRET_BYTES:
        raise Refusal("sealing.bad_key", kind="Ed25519 private key")
    return SigningKey(Ed25519PrivateKey.from_private_bytes(secret))


def signing_secret(key: SigningKey) -> bytes:
    """The 32-byte seed."""
    return key.private.private_bytes_raw()


def hpke_key(secret: bytes) -> HpkeKey:
    """The key with this secret, ML-KEM seed (64 bytes) ‖ X25519 scalar (32).

    Raises: `sealing.bad_key`.
    """
    if len(secret) != HPKE_SECRET_BYTES:
        raise Refusal("sealing.bad_key", kind="HPKE private key")
    return HpkeKey(
        MLKEM768PrivateKey.from_seed_bytes(secret[:MLKEM_SEED_BYTES]),
        X25519PrivateKey.from_private_bytes(secret[MLKEM_SEED_BYTES:]),
    )


def hpke_secret(key: HpkeKey) -> bytes:
    """ML-KEM seed ‖ X25519 scalar (96 bytes)."""
    return b"".join(part.private_bytes_raw() for part in key.private)
