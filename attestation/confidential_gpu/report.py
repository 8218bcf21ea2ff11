"""A GPU's signed measurements: SPDM's GET_MEASUREMENTS and MEASUREMENTS, little-endian.

What is vendor-defined in it (opaque data: type u16, size u16, value) is NVIDIA's, as its open verifier
(NVIDIA/nvtrust) reads it. The parser runs on bytes that a host carried: it is bounded, and knows one
exception.

Source: DMTF DSP0274 (SPDM) 1.1; the opaque data: NVIDIA/nvtrust.
"""

from __future__ import annotations

from dataclasses import dataclass

from attestation.quote import Cursor
from contracts.refusal import Refusal

CODE = "attest.gpu_malformed"
MAX_REPORT_BYTES = 64 * 1024
VERSION, REQUEST, RESPONSE = 0x11, 0xE0, 0x60
SIGNED, ALL = 0x01, 0xFF
DMTF = 0x01
SIGNATURE_BYTES = 96
DRIVER_VERSION, VBIOS_VERSION = 3, 6


@dataclass(frozen=True)
class GpuReport:
    """`signed` is what the signature (r ‖ s on P-384, over SHA-384) covers: request, and answer before it."""

    nonce: bytes
    measurements: dict[int, bytes]
    opaque: dict[int, bytes]
    signed: bytes
    signature: bytes

    def text(self, kind: int) -> str:
        """A version in the opaque data; empty where there is none."""
        return self.opaque.get(kind, b"").rstrip(b"\0").decode("ascii", "replace")

    @property
    def vbios(self) -> str:
        """As NVIDIA writes it: 96.00.9F.00.01 of the bytes 00 9f 00 96, 01."""
        digits = self.opaque.get(VBIOS_VERSION, b"")[::-1].hex().upper()
        half = len(digits) // 2
        shown = digits[half:] + digits[max(half - 2, 0) : half]
        return ".".join(shown[place : place + 2] for place in range(0, len(shown), 2))


def read_report(data: bytes) -> GpuReport:
    """Raises: `attest.gpu_malformed` for what is not one signed answer about all measurements."""
    if len(data) > MAX_REPORT_BYTES:
        raise Refusal(CODE, expected=f"at most {MAX_REPORT_BYTES} bytes", found=f"{len(data)} bytes")
    cursor = Cursor(data, CODE)
    asked = bytes([VERSION, REQUEST, SIGNED, ALL])
    _expect(cursor.take(4, "request"), asked, "a request for signed measurements")
    nonce = cursor.take(32, "request's nonce")
    cursor.take(1, "slot")
    _expect(cursor.take(2, "answer"), bytes([VERSION, RESPONSE]), "an answer with measurements")
    cursor.take(2, "answer's parameters")
    count = cursor.take(1, "number of measurements")[0]
    size = int.from_bytes(cursor.take(3, "size of the record"), "little")
    record = cursor.take(size, "measurement record")
    cursor.take(32, "answer's nonce")
    opaque = cursor.take(cursor.u16("size of the opaque data"), "opaque data")
    signed = cursor.taken
    signature = cursor.take(SIGNATURE_BYTES, "signature")
    cursor.end("signature")
    return GpuReport(nonce, _measurements(record, count), _opaque(opaque), signed, signature)


def _measurements(record: bytes, count: int) -> dict[int, bytes]:
    cursor = Cursor(record, CODE)
    found: dict[int, bytes] = {}
    for _ in range(count):
        index, specification = cursor.take(2, "measurement")
        inner = Cursor(cursor.take(cursor.u16("size of a measurement"), "measurement"), CODE)
        inner.take(1, "kind of a measurement")
        value = inner.take(inner.u16("size of a digest"), "digest")
        inner.end("digest")
        if specification != DMTF or index in found:
            expected = "each measurement once, in DMTF's form"
            raise Refusal(CODE, expected=expected, found=f"measurement {index}")
        found[index] = value
    cursor.end("measurements")
    return found


def _opaque(data: bytes) -> dict[int, bytes]:
    cursor = Cursor(data, CODE)
    found: dict[int, bytes] = {}
    while cursor.rest:
        kind = cursor.u16("kind of opaque data")
        if kind in found:
            raise Refusal(CODE, expected="each kind of opaque data once", found=f"kind {kind} again")
        found[kind] = cursor.take(cursor.u16("size of opaque data"), "opaque data")
    return found


def _expect(found: bytes, expected: bytes, what: str) -> None:
    if found != expected:
        raise Refusal(CODE, expected=what, found=found.hex())
