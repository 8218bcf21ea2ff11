"""The binary structures that a quoting enclave writes: SGX quote v3 and TDX quote v4.

Little-endian. A quote is header ‖ body ‖ u32 length ‖ signature data.

Source: layouts: Intel, "SGX ECDSA QuoteLibReference DCAP API", appendix A.4 (quote v3), and "TDX DCAP
Quoting Library API", appendix A.3 (quote v4).
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Literal

from cryptography.hazmat.primitives.asymmetric import ec

from attestation.development_quoting import constants as dev
from attestation.development_quoting.keys import raw_public_key, raw_signature

ECDSA_P256 = 2
TEE_SGX = 0x00
TEE_TDX = 0x81
PCK_CHAIN_PEM = 5
QE_REPORT_DATA = 6

# SGX ATTRIBUTES.FLAGS: INIT 0x01, DEBUG 0x02, MODE64BIT 0x04, PROVISIONKEY 0x10. XFRM: x87 and SSE.
ENCLAVE_FLAGS = 0x05
QE_FLAGS = 0x15
XFRM = 0x03
# TD ATTRIBUTES: only SEPT_VE_DISABLE (bit 28). XFAM: the bits that TDX fixes to one (x87, SSE).
TD_ATTRIBUTES = 1 << 28
XFAM = 0x03


@dataclass(frozen=True)
class QuoteSigner:
    """What the quoting side holds: the PCK key (signs the QE's report), the attestation key (signs
    quotes), and the PEM chain of the PCK."""

    pck_key: ec.EllipticCurvePrivateKey
    attestation_key: ec.EllipticCurvePrivateKey
    pck_chain: bytes


def sgx_quote(
    signer: QuoteSigner, report_data: bytes, *, mrenclave: bytes, mrsigner: bytes, product_id: int, svn: int
) -> bytes:
    """An SGX quote v3. report_data: 64 bytes; mrenclave, mrsigner: 32 bytes."""
    report = _enclave_report(
        mrenclave, mrsigner, product_id=product_id, svn=svn, flags=ENCLAVE_FLAGS, report_data=report_data
    )
    signed = _header(3, TEE_SGX) + report
    qe = _quoting_enclave(signer, dev.QE_MRENCLAVE, dev.SGX_QE_PRODUCT)
    return _with_signature(signed, signer, qe)


def tdx_quote(
    signer: QuoteSigner, report_data: bytes, *, mrtd: bytes, rtmrs: tuple[bytes, bytes, bytes, bytes]
) -> bytes:
    """A TDX quote v4 (TD report 1.0). report_data: 64 bytes; mrtd and each of the four RTMRs: 48 bytes."""
    body = b"".join(
        [
            dev.TEE_TCB_SVN,
            hashlib.sha384(dev.sentence_hash("the TDX module")).digest(),  # MRSEAM
            bytes(48),  # MRSIGNERSEAM: zero, as for Intel's module
            bytes(8),  # SEAMATTRIBUTES
            struct.pack("<QQ", TD_ATTRIBUTES, XFAM),
            _exactly(mrtd, 48),
            bytes(3 * 48),  # MRCONFIGID, MROWNER, MROWNERCONFIG
            *(_exactly(register, 48) for register in rtmrs),
            _exactly(report_data, 64),
        ]
    )
    signed = _header(4, TEE_TDX) + body
    qe = _quoting_enclave(signer, dev.TD_QE_MRENCLAVE, dev.TD_QE_PRODUCT)
    return _with_signature(signed, signer, struct.pack("<HI", QE_REPORT_DATA, len(qe)) + qe)


def _header(version: Literal[3, 4], tee: int) -> bytes:
    if version == 3:  # reserved u32, then the SVNs of QE and PCE, which v4 leaves zero
        middle = struct.pack("<IHH", 0, dev.QE_SVN, dev.PCE_SVN)
    else:
        middle = struct.pack("<IHH", tee, 0, 0)
    user_data = dev.sentence_hash("quoting enclave id")[:16] + bytes(4)
    return struct.pack("<HH", version, ECDSA_P256) + middle + dev.QE_VENDOR_ID + user_data


def _enclave_report(
    mrenclave: bytes, mrsigner: bytes, *, product_id: int, svn: int, flags: int, report_data: bytes
) -> bytes:
    """REPORTBODY, 384 bytes.

    Source: Intel SDM volume 3D, table 35-21.
    """
    return b"".join(
        [
            dev.SGX_COMPONENTS,  # CPUSVN
            bytes(4 + 28),  # MISCSELECT, reserved and ISVEXTPRODID
            struct.pack("<QQ", flags, XFRM),
            _exactly(mrenclave, 32),
            bytes(32),
            _exactly(mrsigner, 32),
            bytes(32 + 64),  # reserved, CONFIGID
            struct.pack("<HH", product_id, svn),
            bytes(2 + 42 + 16),  # CONFIGSVN, reserved, ISVFAMILYID
            _exactly(report_data, 64),
        ]
    )


def _quoting_enclave(signer: QuoteSigner, mrenclave: bytes, product_id: int) -> bytes:
    """QE report ‖ its signature by the PCK ‖ QE authentication data ‖ certification data."""
    point = raw_public_key(signer.attestation_key.public_key())
    auth_data = dev.sentence_hash("QE authentication data")
    report = _enclave_report(
        mrenclave,
        dev.QE_MRSIGNER,
        product_id=product_id,
        svn=dev.QE_SVN,
        flags=QE_FLAGS,
        report_data=hashlib.sha256(point + auth_data).digest() + bytes(32),
    )
    return b"".join(
        [
            report,
            raw_signature(signer.pck_key, report),
            struct.pack("<H", len(auth_data)),
            auth_data,
            struct.pack("<HI", PCK_CHAIN_PEM, len(signer.pck_chain)),
            signer.pck_chain,
        ]
    )


def _with_signature(signed: bytes, signer: QuoteSigner, certification: bytes) -> bytes:
    data = b"".join(
        [
            raw_signature(signer.attestation_key, signed),
            raw_public_key(signer.attestation_key.public_key()),
            certification,
        ]
    )
    return signed + struct.pack("<I", len(data)) + data


def _exactly(value: bytes, length: int) -> bytes:
    if len(value) != length:
        raise ValueError(f"{len(value)} bytes where the structure has {length}")
    return value
