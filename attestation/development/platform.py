"""The host's side of development evidence: the part that a processor and its quoting enclave play.

Folder (0700, files 0600): `pck.key`, `attestation.key`, `sealing.secret` (emptied by hand: a platform without
sealing keys, as TDX is), and `pck-chain.pem` once the
coordinator has certified the PCK key. The keys are made here and never leave; the coordinator sees a
request only.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.development import certificates as pki
from attestation.development import quotes
from attestation.development.files import key_bytes, new_folder, new_key, read_key, write_private
from contracts.refusal import Refusal

MAX_CHAIN_BYTES = 32 * 1024
SEALING_DOMAIN = b"fedslice/development-sealing/v1"


@dataclass(frozen=True, repr=False)
class Platform:
    """A certified development platform, opened. Never printed: it holds private keys. An empty sealing secret
    makes it a platform without sealing keys, as TDX is."""

    signer: quotes.Signer
    sealing_secret: bytes

    def sgx_quote(
        self, report_data: bytes, *, mrenclave: bytes, mrsigner: bytes, product_id: int, svn: int
    ) -> bytes:
        """An SGX quote v3 over 64 bytes of report data, for the given identity."""
        return quotes.sgx_quote(
            self.signer, report_data, mrenclave=mrenclave, mrsigner=mrsigner, product_id=product_id, svn=svn
        )

    def tdx_quote(
        self, report_data: bytes, *, mrtd: bytes, rtmrs: tuple[bytes, bytes, bytes, bytes]
    ) -> bytes:
        """A TDX quote v4 over 64 bytes of report data, for the given measurements (48 bytes each)."""
        return quotes.tdx_quote(self.signer, report_data, mrtd=mrtd, rtmrs=rtmrs)

    def sealing_key(self, mrenclave: bytes, label: str) -> bytes | None:
        """32 bytes that depend on platform, measurement and label: SGX's key policy MRENCLAVE."""
        if not self.sealing_secret:
            return None
        info = SEALING_DOMAIN + b"\x00" + mrenclave + label.encode()
        return HKDF(hashes.SHA256(), 32, salt=None, info=info).derive(self.sealing_secret)


def create_platform(directory: Path | str) -> bytes:
    """Make the host's keys in `directory`, unless they are there. Returns the certification request in PEM.

    The request is PKCS#10 (RFC 2986): the PCK public key, signed by its private key. It goes to the
    coordinator's `issue_platform`. Safe to repeat. Refuses with `development.no_platform` if the folder
    cannot be read.
    """
    directory = Path(directory)
    if not (directory.is_dir() and any(directory.iterdir())):
        with new_folder(directory) as building:
            write_private(building / "pck.key", key_bytes(new_key()))
            write_private(building / "attestation.key", key_bytes(new_key()))
            write_private(building / "sealing.secret", secrets.token_bytes(32))
    try:
        key = read_key(directory / "pck.key")
    except (OSError, ValueError) as error:
        raise Refusal("development.no_platform", directory=str(directory), fault="no PCK key") from error
    request = x509.CertificateSigningRequestBuilder().subject_name(pki.name(pki.PCK_NAME))
    signed = request.sign(key, hashes.SHA256(), ecdsa_deterministic=True)
    return signed.public_bytes(Encoding.PEM)


def install_platform(directory: Path | str, pck_chain: bytes | str) -> None:
    """Keep the chain that the coordinator issued, after checking that it is for this host's key and signs
    up to a root. (Whose root it is decides the relying party, not the host.) Refuses with
    `development.wrong_chain`."""
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


def load_platform(directory: Path | str) -> Platform:
    """Open an installed platform. Refuses with `development.no_platform`."""
    directory = Path(directory)
    try:
        signer = quotes.Signer(
            read_key(directory / "pck.key"),
            read_key(directory / "attestation.key"),
            (directory / "pck-chain.pem").read_bytes(),
        )
        secret = (directory / "sealing.secret").read_bytes()
    except FileNotFoundError as error:
        fault = f"{Path(error.filename).name} is missing"
        raise Refusal("development.no_platform", directory=str(directory), fault=fault) from error
    except (OSError, ValueError) as error:
        raise Refusal("development.no_platform", directory=str(directory), fault="unreadable") from error
    if len(secret) not in (0, 32):
        raise Refusal("development.no_platform", directory=str(directory), fault="sealing.secret is damaged")
    return Platform(signer, secret)
