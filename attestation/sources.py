"""Sources of evidence: where a program gets a quote over 64 bytes of its own choosing, and its sealing key.

Runs inside the trust boundary. Each source checks that the quote it hands out really binds what was asked
for: the interfaces below are shared with, or answered by, a host that may be hostile. Whether the quote is
any good is not judged here; that is the relying party's appraisal.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from attestation.development import load_platform
from attestation.measurement import DEVELOPMENT_MRSIGNER, PRODUCT_IDS, PROGRAMS, SVN, measure
from attestation.quote import parse
from attestation.tsm import REPORTS, quote_from_tsm
from contracts.policy import Program
from contracts.refusal import Refusal

GRAMINE = Path("/dev/attestation")
SEALING_DOMAIN = b"fedslice/sgx-sealing/v1"
REPORT_DATA_BYTES = 64


class Source(Protocol):
    """Where evidence comes from. `name` is the runtime's name in evidence and logs."""

    name: str

    def quote(self, report_data: bytes) -> bytes:
        """A quote over exactly 64 bytes. Refuses with codes `source.*`."""

    def sealing_key(self, label: str) -> bytes | None:
        """32 bytes that only this program on this machine gets again; None where the TEE has no such key."""


def open_source(runtime: str, *, platform: Path | None = None, program: Program | None = None) -> Source:
    """The source for a runtime: `sgx` (Gramine), `tdx` (configfs-tsm), `development`, `direct`.

    `platform` is the folder of the development platform (development and direct only). `program` is what the
    development measurement is of; by default the program that this process was started as.
    Refuses with codes `source.*`, `development.*`, `measurement.missing`.
    """
    if runtime == "sgx":
        return GramineSource()
    if runtime == "tdx":
        return TdxSource()
    if runtime in ("development", "direct"):
        if platform is None:
            raise Refusal("source.no_platform_given")
        return DevelopmentSource(Path(platform), program or started_program())
    raise Refusal("source.unknown_runtime", runtime=runtime[:40])


def started_program() -> Program:
    """The enclave program that this process was started as (`python -m enclave.programs.X`): like a
    processor, by what was loaded, not by what a caller says. Refuses with `source.program_unknown`."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    for program in PROGRAMS:
        if spec is not None and spec.name == f"enclave.programs.{program}":
            return program
    raise Refusal("source.program_unknown")


class DevelopmentSource:
    """SGX quotes v3 under a development root, in this process. The measurement is taken once, at the
    start, as a processor does: later edits of the files change the next process, not this one."""

    name = "development"

    def __init__(self, platform: Path, program: Program) -> None:
        self._platform = load_platform(platform)
        self._mrenclave = bytes.fromhex(measure(program))
        self._product_id = PRODUCT_IDS[program]

    def quote(self, report_data: bytes) -> bytes:
        """See `Source.quote`."""
        _need_64(report_data)
        return self._platform.sgx_quote(
            report_data,
            mrenclave=self._mrenclave,
            mrsigner=bytes.fromhex(DEVELOPMENT_MRSIGNER),
            product_id=self._product_id,
            svn=SVN,
        )

    def sealing_key(self, label: str) -> bytes | None:
        """32 bytes from the platform's secret, the measurement and the label; None where it has no secret."""
        return self._platform.sealing_key(self._mrenclave, label)


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
        """See `Source.quote`."""
        _need_64(report_data)
        with self._lock:
            kind = self._read("attestation_type").strip(b"\0 \n").decode("ascii", "replace")
            if kind != "dcap":
                raise Refusal("source.not_dcap", found=kind[:20])
            self._write("user_report_data", report_data)
            quote = self._read("quote")
        _need_bound(quote, report_data)
        return quote

    def sealing_key(self, label: str) -> bytes:
        """32 bytes derived (HKDF-SHA256) from the 16-byte SGX sealing key with policy MRENCLAVE."""
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


class TdxSource:
    """TDX through the kernel's configfs-tsm. A trust domain has no sealing key (DESIGN.md, decision 12)."""

    name = "tdx"

    def __init__(self, directory: Path = REPORTS) -> None:
        self._directory = directory

    def quote(self, report_data: bytes) -> bytes:
        """See `Source.quote`."""
        _need_64(report_data)
        quote = quote_from_tsm(self._directory, report_data)
        _need_bound(quote, report_data)
        return quote

    def sealing_key(self, label: str) -> None:
        """None: TDX has no key that outlives the trust domain."""
        return


def _need_64(report_data: bytes) -> None:
    if len(report_data) != REPORT_DATA_BYTES:
        raise Refusal("source.bad_report_data", bytes=len(report_data))


def _need_bound(quote: bytes, report_data: bytes) -> None:
    try:
        bound = parse(quote).report.report_data
    except Refusal as refusal:
        raise Refusal("source.wrong_quote", fault=str(refusal)[:200]) from refusal
    if bound != report_data:
        raise Refusal("source.wrong_quote", fault="it binds other report data")
