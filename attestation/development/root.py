"""The development root: made once per installation, on the coordinator, which plays Intel's PCS.

Folder (0700): `<role>.key` and `<role>.pem` for root, pck-ca and tcb-signing, and `revoked.json`. Whoever
holds this folder can forge development evidence; that is why a run is either all hardware or all
development.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.development import certificates as pki
from attestation.development.files import key_bytes, new_folder, new_key, write_private
from attestation.development_quoting.constants import NOT_AFTER, NOT_BEFORE, sentence_hash
from attestation.development_quoting.keys import read_key
from contracts.refusal import Refusal

ROLES = ("root", "pck-ca", "tcb-signing")
MAX_REQUEST_BYTES = 8 * 1024


@dataclass(frozen=True)
class Authority:
    """One signer of the root's PKI: its key and certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> bytes:
        """The certificate in PEM."""
        return self.certificate.public_bytes(Encoding.PEM)


@dataclass(frozen=True)
class DevelopmentRoot:
    """An opened development root. `revoked`: serial number of a PCK certificate -> Unix time."""

    root: Authority
    pck_ca: Authority
    tcb_signing: Authority
    revoked: dict[int, int]


def create_root(directory: Path | str) -> None:
    """Make the root in `directory`, unless it is there. Safe to call at every start, and from two processes.

    Raises: `development.root_incomplete` if the folder holds something else or a part of a root.
    """
    directory = Path(directory)
    if not (directory.is_dir() and any(directory.iterdir())):
        with new_folder(directory) as building:
            _make_root(building)
    open_root(directory)


def open_root(directory: Path | str) -> DevelopmentRoot:
    """Read the root's keys.

    Raises: `development.root_incomplete`.
    """
    directory = Path(directory)
    root, pck_ca, tcb_signing = (_read_authority(directory, role) for role in ROLES)
    return DevelopmentRoot(root, pck_ca, tcb_signing, _read_revoked(directory))


def root_der(directory: Path | str) -> bytes:
    """The root certificate in DER: what a relying party configures as its trust anchor."""
    return _read_certificate(Path(directory), "root").public_bytes(Encoding.DER)


def root_sha256(directory: Path | str) -> str:
    """SHA-256 of `root_der` in hex: `root_sha256` of a policy whose root is `development`."""
    return hashlib.sha256(root_der(directory)).hexdigest()


def issue_platform(directory: Path | str, request_pem: bytes | str) -> bytes:
    """Certify a host's PCK key.

    `request_pem` is what `create_platform` returned: a PKCS#10 request (RFC 2986), whose signature proves
    that the host holds the private key. Names and extensions in it are ignored. The PPID is a hash of the
    key, so the same host keeps the same PPID.

    Returns: the chain PCK, PCK CA, root in PEM.

    Raises: `development.bad_request`.
    """
    root = open_root(directory)
    key = _proven_key(request_pem)
    point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    ppid = hashlib.sha256(sentence_hash("PPID") + point).digest()[:16]
    instance = hashlib.sha256(sentence_hash("platform instance") + point).digest()[:16]
    certificate = pki.certificate(
        pki.PCK_NAME,
        key,
        pki.PCK_CA_NAME,
        root.pck_ca.key,
        sgx_extension=pki.sgx_extension(ppid, instance),
    )
    return certificate.public_bytes(Encoding.PEM) + root.pck_ca.pem + root.root.pem


def revoke_platform(directory: Path | str, pck_chain: bytes | str, *, at: int | None = None) -> None:
    """Put the PCK certificate (first of the chain) on the PCK CRL, from the time `at` (Unix seconds) on.

    Revoking twice changes nothing.

    Raises: `development.bad_request` for what this root did not issue.
    """
    directory = Path(directory)
    root = open_root(directory)
    pem = pck_chain.encode() if isinstance(pck_chain, str) else pck_chain
    try:
        leaf = x509.load_pem_x509_certificates(pem)[0]
        leaf.verify_directly_issued_by(root.pck_ca.certificate)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise Refusal("development.bad_request", fault="not a platform of this root") from error
    lock = os.open(directory, os.O_RDONLY)  # the folder: the file itself is replaced by each write
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        revoked = _read_revoked(directory)
        revoked.setdefault(leaf.serial_number, int(time.time()) if at is None else at)
        _write_revoked(directory, revoked)
    finally:
        os.close(lock)


def moment(at: int, back: int = 0) -> datetime:
    """Unix seconds `at`, less `back`, as a UTC time.

    Raises: `development.out_of_range` for a time outside the root's validity.
    """
    if not NOT_BEFORE.timestamp() <= at <= NOT_AFTER.timestamp():
        raise Refusal("development.out_of_range", at=at)
    return datetime.fromtimestamp(at - back, UTC)


def _make_root(directory: Path) -> None:
    root_key, ca_key, tcb_key = new_key(), new_key(), new_key()
    issued = {
        "root": (root_key, pki.certificate(pki.ROOT_NAME, root_key.public_key(), pki.ROOT_NAME, root_key,
                                           ca_path_length=1)),
        "pck-ca": (ca_key, pki.certificate(pki.PCK_CA_NAME, ca_key.public_key(), pki.ROOT_NAME, root_key,
                                           ca_path_length=0)),
        "tcb-signing": (tcb_key, pki.certificate(pki.TCB_SIGNING_NAME, tcb_key.public_key(), pki.ROOT_NAME,
                                                 root_key)),
    }  # fmt: skip
    for role, (key, certificate) in issued.items():
        write_private(directory / f"{role}.key", key_bytes(key))
        write_private(directory / f"{role}.pem", certificate.public_bytes(Encoding.PEM))
    _write_revoked(directory, {})


def _read_certificate(directory: Path, role: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate((directory / f"{role}.pem").read_bytes())
    except (OSError, ValueError) as error:
        raise Refusal("development.root_incomplete", directory=str(directory), file=f"{role}.pem") from error


def _read_authority(directory: Path, role: str) -> Authority:
    try:
        key = read_key(directory / f"{role}.key")
    except (OSError, ValueError) as error:
        raise Refusal("development.root_incomplete", directory=str(directory), file=f"{role}.key") from error
    return Authority(key, _read_certificate(directory, role))


def _read_revoked(directory: Path) -> dict[int, int]:
    try:
        entries = json.loads((directory / "revoked.json").read_bytes())
        return {int(serial, 16): int(when) for serial, when in entries.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise Refusal("development.root_incomplete", directory=str(directory), file="revoked.json") from error


def _write_revoked(directory: Path, revoked: dict[int, int]) -> None:
    entries = {f"{serial:x}": when for serial, when in sorted(revoked.items())}
    write_private(directory / "revoked.json", json.dumps(entries).encode())


def _proven_key(request_pem: bytes | str) -> ec.EllipticCurvePublicKey:
    pem = request_pem.encode() if isinstance(request_pem, str) else request_pem
    if len(pem) > MAX_REQUEST_BYTES:
        raise Refusal("development.bad_request", fault="it is too large")
    try:
        request = x509.load_pem_x509_csr(pem)
        key = request.public_key()
        proven = request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Refusal("development.bad_request", fault="it is not a PKCS#10 request in PEM") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise Refusal("development.bad_request", fault="its key is not on P-256")
    if not proven:
        raise Refusal(
            "development.bad_request", fault="it does not prove that the host holds the private key"
        )
    return key
