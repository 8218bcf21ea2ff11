"""The state folder's keys, for one operator: a tar in a CMS envelope (RFC 5652) to the certificate of their
own key. `openssl cms -decrypt` opens it as well."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key, pkcs7
from django.conf import settings

from contracts.refusal import Refusal

KEPT: Final = (
    "secret-key", "second-factor-key", "supervisor-token", "log-key.json", "development-root",
    "supervisor/platform",
)  # fmt: skip
"""What of the state folder a restored coordinator cannot make again (docs/operations.md, Back up)."""


def certificate_of(path: Path) -> x509.Certificate:
    """Raises: `backup.bad_key`."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError as error:
        raise Refusal("backup.bad_key", file=path.name) from error


def sealed(to: x509.Certificate) -> bytes:
    """Those of KEPT that are here.

    Raises: `backup.bad_key` where the certificate has no RSA key.
    """
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name in KEPT:
            if (settings.STATE_DIR / name).exists():
                archive.add(settings.STATE_DIR / name, name)
    try:
        envelope = pkcs7.PKCS7EnvelopeBuilder().set_data(plain.getvalue()).add_recipient(to)
    except TypeError as error:
        raise Refusal("backup.bad_key", file="the certificate") from error
    options = [pkcs7.PKCS7Options.Binary]
    return envelope.set_content_encryption_algorithm(AES256).encrypt(Encoding.DER, options)


def restore(envelope: bytes, to: x509.Certificate, key: Path, passphrase: bytes | None) -> list[str]:
    """Put the keys back, each readable by its owner only; their names.

    Raises: `backup.bad_key`.
    """
    try:
        private = load_pem_private_key(key.read_bytes(), passphrase)
        if not isinstance(private, RSAPrivateKey):
            raise Refusal("backup.bad_key", file=key.name)
        plain = pkcs7.pkcs7_decrypt_der(envelope, to, private, [])
    except (ValueError, TypeError) as error:
        raise Refusal("backup.bad_key", file=key.name) from error
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
        within = tuple(f"{name}/" for name in KEPT)
        members = [one for one in archive if one.name in KEPT or one.name.startswith(within)]
        for member in members:
            member.mode = 0o700 if member.isdir() else 0o600
        archive.extractall(settings.STATE_DIR, members, filter="data")
    return sorted({name for name in KEPT if any(one.name.startswith(name) for one in members)})
