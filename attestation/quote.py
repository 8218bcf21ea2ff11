"""The quote: a strict parser for SGX quote v3, TDX quote v4 and TDX quote v5.

All little-endian. A quote is header ‖ body ‖ u32 length ‖ signature data. The parser runs on bytes that an
adversary wrote: it knows one exception, `Refusal`, and accepts a quote only if encoding what it read gives
the same bytes again.

Source: layouts: Intel, "SGX ECDSA QuoteLibReference DCAP API", appendix A.4 (v3), and "TDX DCAP Quoting
Library API", appendix A.3 (v4, v5).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from contracts.refusal import Refusal

if TYPE_CHECKING:
    from attestation.td_report import TdReport

MAX_QUOTE_BYTES = 32 * 1024

Tee = Literal["sgx", "tdx"]

ECDSA_P256 = 2
TEE_TYPES: dict[int, Tee] = {0x00: "sgx", 0x81: "tdx"}
VERSIONS: dict[Tee, tuple[int, ...]] = {"sgx": (3,), "tdx": (4, 5)}
INTEL_QE_VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
PCK_CHAIN_PEM = 5
QE_REPORT_CERTIFICATION = 6

_HEADER = struct.Struct("<HHI4s16s20s")
_SGX = struct.Struct("<16sI12s16sQ8s32s32s32s32s64sHHH42s16s64s")


class QuoteHeader(NamedTuple):
    """The first 48 bytes. `reserved` holds the SVNs of QE and PCE in v3 and zeros in v4 and v5."""

    version: int
    key_type: int
    tee_type: int
    reserved: bytes
    qe_vendor: bytes
    user_data: bytes


class SgxReport(NamedTuple):
    """REPORTBODY, 384 bytes: of the attested enclave, or of the QE.

    Source: Intel SDM volume 3D, table 35-21.
    """

    cpu_svn: bytes
    misc_select: int
    reserved1: bytes
    isv_ext_product_id: bytes
    flags: int
    xfrm: bytes
    mrenclave: bytes
    reserved2: bytes
    mrsigner: bytes
    reserved3: bytes
    config_id: bytes
    product_id: int
    svn: int
    config_svn: int
    reserved4: bytes
    isv_family_id: bytes
    report_data: bytes

    def encode(self, _version: int = 3) -> bytes:
        """The 384 bytes."""
        return _SGX.pack(*self)

    @property
    def measurement(self) -> str:
        """MRENCLAVE in hex."""
        return self.mrenclave.hex()

    @property
    def attributes(self) -> bytes:
        """FLAGS ‖ XFRM, 16 bytes: what Intel's QE identity masks and compares."""
        return self.flags.to_bytes(8, "little") + self.xfrm


@dataclass(frozen=True)
class Quote:
    """A parsed quote. `signed` is what the attestation key signed; `pck_chain` is PEM as it came.

    `attestation_key` is x ‖ y and each signature r ‖ s, 64 bytes big-endian, on P-256.
    """

    header: QuoteHeader
    tee: Tee
    report: SgxReport | TdReport
    signature: bytes
    attestation_key: bytes
    qe_report: SgxReport
    qe_signature: bytes
    qe_auth_data: bytes
    pck_chain: bytes

    @property
    def signed(self) -> bytes:
        """header ‖ body; v5 has the body's type and size between them."""
        return _HEADER.pack(*self.header) + self.report.encode(self.header.version)

    def encode(self) -> bytes:
        """The canonical bytes: the only ones that parse to this quote."""
        qe = b"".join(
            [
                self.qe_report.encode(),
                self.qe_signature,
                struct.pack("<H", len(self.qe_auth_data)),
                self.qe_auth_data,
                struct.pack("<HI", PCK_CHAIN_PEM, len(self.pck_chain)),
                self.pck_chain,
            ]
        )
        if self.header.version >= 4:
            qe = struct.pack("<HI", QE_REPORT_CERTIFICATION, len(qe)) + qe
        data = self.signature + self.attestation_key + qe
        return self.signed + struct.pack("<I", len(data)) + data


def parse(data: bytes) -> Quote:
    """Read one quote, strictly.

    Raises: `attest.quote_too_large`, `attest.quote_malformed` (lengths, or bytes that do not come back when
    encoded) or `attest.quote_unsupported` (version, TEE, key type, vendor or certification data that this
    verifier does not know).
    """
    if len(data) > MAX_QUOTE_BYTES:
        raise Refusal(
            "attest.quote_too_large", expected=f"at most {MAX_QUOTE_BYTES} bytes", found=f"{len(data)} bytes"
        )
    cursor = Cursor(data)
    header = QuoteHeader(*_HEADER.unpack(cursor.take(_HEADER.size, "header")))
    tee = _supported(header)
    report = _body(cursor, header, tee)
    signature_data = Cursor(cursor.take(cursor.u32("length of signature data"), "signature data"))
    cursor.end("quote")
    signature = signature_data.take(64, "signature")
    attestation_key = signature_data.take(64, "attestation key")
    qe = signature_data
    if header.version >= 4:
        qe = Cursor(_certification(signature_data, QE_REPORT_CERTIFICATION))
        signature_data.end("signature data")
    quote = Quote(
        header=header,
        tee=tee,
        report=report,
        signature=signature,
        attestation_key=attestation_key,
        qe_report=_sgx_report(qe, "QE report"),
        qe_signature=qe.take(64, "QE signature"),
        qe_auth_data=qe.take(qe.u16("length of QE authentication data"), "QE authentication data"),
        pck_chain=_certification(qe, PCK_CHAIN_PEM),
    )
    qe.end("QE certification data")
    if quote.encode() != data:
        raise Refusal("attest.quote_malformed", found="its canonical encoding differs from it")
    return quote


def unpadded(data: bytes) -> bytes:
    """The quote without zero bytes after its end: some quoting services hand out a buffer of fixed size.

    Honest senders do this, so the verifier takes it away before `parse`, and both forms are one quote under
    one name. What follows and is not zero stays, for `parse` to refuse.
    """
    if len(data) > MAX_QUOTE_BYTES:
        return data
    cursor = Cursor(data)
    try:
        header = QuoteHeader(*_HEADER.unpack(cursor.take(_HEADER.size, "header")))
        _body(cursor, header, _supported(header))
        cursor.take(cursor.u32("length of signature data"), "signature data")
    except Refusal:
        return data
    return cursor.taken if not any(cursor.rest) else data


def _supported(header: QuoteHeader) -> Tee:
    tee = TEE_TYPES.get(header.tee_type)
    if tee is None:
        raise Refusal("attest.quote_unsupported", found=f"TEE type {header.tee_type:#x}")
    if header.version not in VERSIONS[tee]:
        raise Refusal("attest.quote_unsupported", found=f"{tee.upper()} quote version {header.version}")
    if header.key_type != ECDSA_P256:
        raise Refusal("attest.quote_unsupported", found=f"attestation key type {header.key_type}")
    if header.qe_vendor != INTEL_QE_VENDOR:
        raise Refusal("attest.quote_unsupported", found=f"QE vendor {header.qe_vendor.hex()}")
    return tee


def _body(cursor: Cursor, header: QuoteHeader, tee: Tee) -> SgxReport | TdReport:
    if tee == "sgx":
        return _sgx_report(cursor, "enclave report")
    from attestation.td_report import read_report  # loaded where somebody shows a trust domain

    return read_report(cursor, header.version)


def _sgx_report(cursor: Cursor, what: str) -> SgxReport:
    return SgxReport(*_SGX.unpack(cursor.take(_SGX.size, what)))


def _certification(cursor: Cursor, kind: int) -> bytes:
    found = cursor.u16("type of certification data")
    if found != kind:
        raise Refusal("attest.quote_unsupported", found=f"certification data type {found}")
    return cursor.take(cursor.u32("length of certification data"), "certification data")


class Cursor:
    """Reads forward and never past the end; what is too short is refused by `code`."""

    def __init__(self, data: bytes, code: str = "attest.quote_malformed") -> None:
        self._data, self._code = data, code
        self._at = 0

    def take(self, count: int, what: str) -> bytes:
        if count > len(self._data) - self._at:
            raise Refusal(self._code, found=f"it ends inside the {what}")
        self._at += count
        return self._data[self._at - count : self._at]

    def u16(self, what: str) -> int:
        return int.from_bytes(self.take(2, what), "little")

    def u32(self, what: str) -> int:
        return int.from_bytes(self.take(4, what), "little")

    @property
    def taken(self) -> bytes:
        return self._data[: self._at]

    @property
    def rest(self) -> bytes:
        return self._data[self._at :]

    def end(self, what: str) -> None:
        if self._at != len(self._data):
            raise Refusal(self._code, found=f"{len(self._data) - self._at} bytes follow the {what}")
