"""What every source holds of a quote: that it binds exactly the 64 bytes that were asked for."""

from __future__ import annotations

from attestation.own_quote import read_own
from contracts.refusal import Refusal

REPORT_DATA_BYTES = 64


def require_length(report_data: bytes) -> None:
    """Raises: `source.bad_report_data`."""
    if len(report_data) != REPORT_DATA_BYTES:
        raise Refusal("source.bad_report_data", bytes=len(report_data))


def require_bound(quote: bytes, report_data: bytes) -> None:
    """Raises: `source.wrong_quote`."""
    if read_own(quote).report_data != report_data:
        raise Refusal("source.wrong_quote", fault="it binds other report data")
