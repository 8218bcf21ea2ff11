"""The second opinion: dcap-qvl, another implementation in another language, on the same bytes and time.

A fault in our checks that lets something through would have to be matched by a fault there. It is asked only
with the root that our checks have pinned, and never fetches anything.
"""

from __future__ import annotations

import json
from typing import NamedTuple

import dcap_qvl
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.certificates import Certificate
from attestation.collateral import Collateral
from attestation.quote import Quote

MAX_TIME = 2**40


class Opinion(NamedTuple):
    """`accepted` with the TCB status and advisories, or not, with the library's own words."""

    accepted: bool
    status: str
    advisories: tuple[str, ...]
    words: str


def ask(quote: Quote, collateral: Collateral, root: Certificate, at: int) -> Opinion:
    """dcap-qvl's verdict under this root, which must be the pinned one."""
    if not 0 <= at < MAX_TIME:
        return Opinion(False, "", (), "the time is out of range")
    try:
        fields = dcap_qvl.QuoteCollateralV3.from_json(json.dumps(collateral.fields))
        report = dcap_qvl.verify_with_root_ca(quote.encode(), fields, root.public_bytes(Encoding.DER), at)
    except ValueError as error:
        return Opinion(False, "", (), str(error)[:300])
    except BaseException as error:
        # A panic in Rust arrives as pyo3's PanicException, which no other way than its name tells.
        if type(error).__name__ != "PanicException":
            raise
        return Opinion(False, "", (), "dcap-qvl failed")
    words = " ".join(["accepted:", report.status, *report.advisory_ids])
    return Opinion(True, report.status, tuple(report.advisory_ids), words)
