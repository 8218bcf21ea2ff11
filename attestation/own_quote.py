"""What an enclave reads in its own quote: the 64 bytes that it binds, and what was measured.

The quote came from the enclave's own TEE, so only the places of two fields are needed; whether a quote is any
good is judged by relying parties alone (`quote.py` has the same layouts whole, `checks/` the judgement).
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from contracts.refusal import Refusal

HEADER_BYTES, SGX_REPORT_BYTES, TD_REPORT_BYTES = 48, 384, 584
SGX_V3 = (3).to_bytes(2, "little"), (0x00).to_bytes(4, "little")
TDX_V4 = (4).to_bytes(2, "little"), (0x81).to_bytes(4, "little")
TDX_V5 = (5).to_bytes(2, "little"), TDX_V4[1]
V5_BODY_DESCRIPTOR_BYTES = 6


class Own(NamedTuple):
    """`measurement` in hex, as `quote.SgxReport.measurement` and `quote.TdReport.measurement` have it."""

    report_data: bytes
    measurement: str


def read_own(quote: bytes) -> Own:
    """Raises: `source.wrong_quote` for what is no quote of a kind that programs get."""
    kind, report = (quote[:2], quote[4:8]), quote[HEADER_BYTES:]
    if kind == SGX_V3 and len(report) >= SGX_REPORT_BYTES:
        return Own(report[320:384], report[64:96].hex())
    if kind == TDX_V5:
        report = report[V5_BODY_DESCRIPTOR_BYTES:]
    if kind in (TDX_V4, TDX_V5) and len(report) >= TD_REPORT_BYTES:
        mrtd, rtmrs = report[136:184], report[328:520]
        return Own(report[520:584], hashlib.sha384(mrtd + rtmrs).hexdigest())
    raise Refusal("source.wrong_quote", fault="it is no quote of SGX v3, TDX v4 or TDX v5")
