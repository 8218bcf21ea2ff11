"""SGX through Gramine: the source of evidence of the runtime `sgx`."""

from __future__ import annotations

import threading
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from attestation.sources.report_data import require_bound, require_length
from contracts.refusal import Refusal

GRAMINE = Path("/dev/attestation")
SEALING_DOMAIN = b"fedslice/sgx-sealing/v1"


class GramineSource:
    """SGX through Gramine's pseudo-files (Gramine documentation, "Attestation and secret provisioning").

    `user_report_data` is one register for the whole enclave, so writing it and reading the quote is one step
    under a lock.
    """

    name = "sgx"
    _lock = threading.Lock()

    def __init__(self, directory: Path = GRAMINE) -> None:
        self._directory = directory

    def quote(self, report_data: bytes) -> bytes:
        """See `Source.quote`.

        Raises: `source.not_dcap`.
        """
        require_length(report_data)
        with self._lock:
            kind = self._read("attestation_type").strip(b"\0 \n").decode("ascii", "replace")
            if kind != "dcap":
                raise Refusal("source.not_dcap", found=kind[:20])
            self._write("user_report_data", report_data)
            quote = self._read("quote")
        require_bound(quote, report_data)
        return quote

    def event_log(self) -> None:
        """None: MRENCLAVE says what was loaded."""
        return

    def sealing_key(self, label: str) -> bytes:
        """32 bytes derived (HKDF-SHA256) from the 16-byte SGX sealing key with policy MRENCLAVE.

        Raises: `source.unavailable`.
        """
        secret = self._read("keys/_sgx_mrenclave")
        if len(secret) != 16 or not any(secret):
            raise Refusal("source.unavailable", path=str(self._directory / "keys"), fault="no sealing key")
        return HKDF(hashes.SHA256(), 32, salt=None, info=SEALING_DOMAIN + b"\x00" + label.encode()).derive(
            secret
        )

    def _read(self, name: str) -> bytes:
        path = self._directory / name
        try:
            return path.read_bytes()
        except OSError as error:
            raise Refusal(
                "source.unavailable", path=str(path), fault=error.strerror or "no answer"
            ) from error

    def _write(self, name: str, content: bytes) -> None:
        path = self._directory / name
        try:
            with path.open("r+b", buffering=0) as file:  # one write call; the file must exist already
                written = file.write(content)
        except OSError as error:
            raise Refusal(
                "source.unavailable", path=str(path), fault=error.strerror or "no answer"
            ) from error
        if written != len(content):
            raise Refusal("source.unavailable", path=str(path), fault="it took only a part")
