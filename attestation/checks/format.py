"""Check group 1: the bytes are a quote and its collateral, in their only form."""

from __future__ import annotations

from attestation.certificates import load_chain
from attestation.checks.examination import Examination, Outcome, Passed
from attestation.collateral import decode
from attestation.quote import MAX_QUOTE_BYTES, parse, unpadded


def quote_format(e: Examination) -> Outcome:
    """Size, strict parse, canonical re-encoding; version, TEE, key type, vendor. Zeros may follow."""
    whole, e.quote_bytes = len(e.quote_bytes), unpadded(e.quote_bytes)
    e.quote = parse(e.quote_bytes)
    e.pck_chain = load_chain(e.quote.pck_chain, "PCK certificate chain")
    zeros = f", and {cut} zeros behind it, cut off" if (cut := whole - len(e.quote_bytes)) else ""
    found = f"{e.quote.tee.upper()} quote v{e.quote.header.version}, {len(e.quote_bytes)} bytes{zeros}"
    return Passed(f"a quote of at most {MAX_QUOTE_BYTES} bytes", found)


def collateral_format(e: Examination) -> Outcome:
    """The nine fields and no other, each decodable."""
    e.collateral = decode(e.collateral_fields)
    return Passed("the fields of QuoteCollateralV3", "all of them")
