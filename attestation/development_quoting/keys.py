"""P-256, the only curve of SGX DCAP: keys in files, and signatures and points as a quote holds them."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_private_key


def read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read a key that `key_bytes` wrote. Raises OSError or ValueError."""
    key = load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not a P-256 key")
    return key


def raw_signature(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """ECDSA P-256 with SHA-256 as r ‖ s, 64 bytes big-endian: the form in quotes and in PCS answers."""
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True)))
    return r.to_bytes(32) + s.to_bytes(32)


def raw_public_key(key: ec.EllipticCurvePublicKey) -> bytes:
    """The point as x ‖ y, 64 bytes big-endian, without the 0x04 prefix of SEC 1."""
    numbers = key.public_numbers()
    return numbers.x.to_bytes(32) + numbers.y.to_bytes(32)
