"""What every source holds of a quote: that it binds exactly the 64 bytes that were asked for."""

from __future__ import annotations

from attestation.quote import parse
from contracts.refusal import Refusal

REPORT_DATA_BYTES = 64


def require_length(report_data: bytes) -> None:
    """Refuses with `source.bad_report_data`."""
    if len(report_data) != REPORT_DATA_BYTES:
        raise Refusal("source.bad_report_data", bytes=len(report_data))


def require_bound(quote: bytes, report_data: bytes) -> None:
    """Refuses with `source.wrong_quote`."""
    try:
        bound = parse(quote).report.report_data
    except Refusal as refusal:
        raise Refusal("source.wrong_quote", fault=str(refusal)[:200]) from refusal
    if bound != report_data:
        raise Refusal("source.wrong_quote", fault="it binds other report data")
