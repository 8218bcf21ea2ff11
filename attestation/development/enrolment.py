"""A host's development platform, made and enrolled: what a processor's manufacturer does.

Folder (0700, files 0600): `pck.key`, `attestation.key`, `tee` (whose evidence it makes: sgx or tdx),
`sealing.secret` (empty: a platform without sealing keys, as TDX is), and `pck-chain.pem` once the coordinator
has certified the PCK key. The keys are made here and never leave; the coordinator sees a request only.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.development import certificates as pki
from attestation.development.files import key_bytes, new_folder, new_key, write_private
from attestation.development_quoting.keys import read_key
from attestation.quote import Tee
from contracts.refusal import Refusal

MAX_CHAIN_BYTES = 32 * 1024


def create_platform(directory: Path | str, tee: Tee = "sgx") -> bytes:
    """Make the host's keys in `directory`, unless they are there.

    The request is PKCS#10 (RFC 2986): the PCK public key, signed by its private key. It goes to the
    coordinator's `issue_platform`. Safe to repeat.

    Returns: the certification request in PEM.

    Raises: `development.no_platform` if the folder cannot be read.
    """
    directory = Path(directory)
    if not (directory.is_dir() and any(directory.iterdir())):
        with new_folder(directory) as building:
            write_private(building / "pck.key", key_bytes(new_key()))
            write_private(building / "attestation.key", key_bytes(new_key()))
            write_private(building / "sealing.secret", secrets.token_bytes(32) if tee == "sgx" else b"")
            write_private(building / "tee", tee.encode())
    try:
        key = read_key(directory / "pck.key")
    except (OSError, ValueError) as error:
        raise Refusal("development.no_platform", directory=str(directory), fault="no PCK key") from error
    request = x509.CertificateSigningRequestBuilder().subject_name(pki.name(pki.PCK_NAME))
    signed = request.sign(key, hashes.SHA256(), ecdsa_deterministic=True)
    return signed.public_bytes(Encoding.PEM)


def install_platform(directory: Path | str, pck_chain: bytes | str) -> None:
    """Keep the chain that the coordinator issued, after checking that it is for this host's key and signs
    up to a root. (Whose root it is decides the relying party, not the host.)

    Raises: `development.wrong_chain`; `development.no_platform`.
    """
    directory = Path(directory)
    chain = pck_chain.encode() if isinstance(pck_chain, str) else pck_chain
    if len(chain) > MAX_CHAIN_BYTES:
        raise Refusal("development.wrong_chain", fault="it is too large")
    try:
        leaf, ca, root = x509.load_pem_x509_certificates(chain)
        leaf.verify_directly_issued_by(ca)
        ca.verify_directly_issued_by(root)
        root.verify_directly_issued_by(root)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise Refusal("development.wrong_chain", fault="it is not PCK, PCK CA, root") from error
    try:
        own = read_key(directory / "pck.key").public_key()
    except (OSError, ValueError) as error:
        raise Refusal("development.no_platform", directory=str(directory), fault="no PCK key") from error
    if leaf.public_key() != own:
        raise Refusal("development.wrong_chain", fault="it certifies another host's key")
    write_private(directory / "pck-chain.pem", chain)


def tee_of(directory: Path | str) -> str:
    """Whose evidence the platform makes, sgx or tdx; empty where there is none (the program will say so)."""
    try:
        return (Path(directory) / "tee").read_text()
    except OSError:
        return ""


def platform_root_sha256(directory: Path | str) -> str | None:
    """SHA-256 of the root's DER in the chain that was installed here, in hex; None where there is none."""
    try:
        root = x509.load_pem_x509_certificates((Path(directory) / "pck-chain.pem").read_bytes())[-1]
    except (OSError, ValueError):
        return None
    return root.fingerprint(hashes.SHA256()).hex()
