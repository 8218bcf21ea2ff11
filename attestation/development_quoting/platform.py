"""An opened development platform: the part that a processor and its quoting enclave play.

Its folder is made by attestation/development/enrolment.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from attestation.development_quoting import quotes
from attestation.development_quoting.keys import read_key
from contracts.refusal import Refusal

SEALING_DOMAIN = b"fedslice/development-sealing/v1"


@dataclass(frozen=True, repr=False)
class DevelopmentPlatform:
    """A certified development platform, opened. Never printed: it holds private keys. `tee` says whose
    evidence it makes. An empty sealing secret makes it a platform without sealing keys, as TDX is."""

    signer: quotes.QuoteSigner
    sealing_secret: bytes
    tee: str

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

    def sealing_key(self, measurement: bytes, label: str) -> bytes | None:
        """32 bytes that depend on platform, measurement and label: SGX's key policy MRENCLAVE."""
        if not self.sealing_secret:
            return None
        info = SEALING_DOMAIN + b"\x00" + measurement + label.encode()
        return HKDF(hashes.SHA256(), 32, salt=None, info=info).derive(self.sealing_secret)


def load_platform(directory: Path | str) -> DevelopmentPlatform:
    """Open an installed platform.

    Raises: `development.no_platform`.
    """
    directory = Path(directory)
    try:
        signer = quotes.QuoteSigner(
            read_key(directory / "pck.key"),
            read_key(directory / "attestation.key"),
            (directory / "pck-chain.pem").read_bytes(),
        )
        secret = (directory / "sealing.secret").read_bytes()
        tee = (directory / "tee").read_text()
    except FileNotFoundError as error:
        fault = f"{Path(error.filename).name} is missing"
        raise Refusal("development.no_platform", directory=str(directory), fault=fault) from error
    except (OSError, ValueError) as error:
        raise Refusal("development.no_platform", directory=str(directory), fault="unreadable") from error
    if len(secret) not in (0, 32):
        raise Refusal("development.no_platform", directory=str(directory), fault="sealing.secret is damaged")
    if tee not in ("sgx", "tdx"):
        raise Refusal("development.no_platform", directory=str(directory), fault="tee is damaged")
    return DevelopmentPlatform(signer, secret, tee)
