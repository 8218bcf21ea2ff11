"""Check groups 6 and 7: Intel's quoting enclave here made the attestation key, and that key the quote."""

from __future__ import annotations

import hashlib

from attestation.certificates import common_name, p256_key, raw_key, verify_raw
from attestation.checks.examination import Examination, Outcome, Passed
from attestation.tcb import part_level
from contracts.refusal import Refusal

FLAG_DEBUG = 1 << 1


def qe_signature(e: Examination) -> Outcome:
    """The PCK signed the quoting enclave's report.

    Raises: `attest.qe_signature`.
    """
    report = e.quote.qe_report.encode()
    if not verify_raw(p256_key(e.pck, "PCK certificate"), e.quote.qe_signature, report):
        raise Refusal(
            "attest.qe_signature", expected="a QE report signed by the PCK", found="another report or key"
        )
    return Passed("signed by the PCK", f"signed by {common_name(e.pck)}")


def qe_binding(e: Examination) -> Outcome:
    """The report's data is SHA-256(attestation key ‖ authentication data), then 32 zero bytes.

    Raises: `attest.qe_binding`.
    """
    digest = hashlib.sha256(e.quote.attestation_key + e.quote.qe_auth_data).digest()
    expected, found = digest + bytes(32), e.quote.qe_report.report_data
    if found != expected:
        raise Refusal("attest.qe_binding", expected=expected.hex(), found=found.hex())
    return Passed(expected.hex(), found.hex())


def qe_identity(e: Examination) -> Outcome:
    """It is the quoting enclave that the QE identity describes, not in debug mode, with a published SVN.

    Raises: `attest.qe_debug` or `attest.qe_identity`.
    """
    report, identity = e.quote.qe_report, e.qe_identity
    if report.flags & FLAG_DEBUG:
        raise Refusal("attest.qe_debug", expected="a production enclave", found="debug mode")
    # The JSON writes MISCSELECT as the bytes lie in memory: least significant first.
    misc = report.misc_select.to_bytes(4, "little")
    compared = {
        "MRSIGNER": (identity.mrsigner, report.mrsigner.hex()),
        "product id": (str(identity.isvprodid), str(report.product_id)),
        "MISCSELECT": _masked(misc, identity.miscselect, identity.miscselect_mask),
        "ATTRIBUTES": _masked(report.attributes, identity.attributes, identity.attributes_mask),
    }
    for name, (expected, found) in compared.items():
        if expected.lower() != found:
            raise Refusal("attest.qe_identity", what=name, expected=expected.lower(), found=found)
    e.qe_level = part_level(identity.tcb_levels, report.svn, "quoting enclave")
    return Passed(
        f"{identity.id}, MRSIGNER {identity.mrsigner.lower()}, product {identity.isvprodid}",
        f"MRSIGNER {report.mrsigner.hex()}, product {report.product_id}, "
        f"SVN {report.svn}: {e.qe_level.tcb_status}",
    )


def quote_signature(e: Examination) -> Outcome:
    """The attestation key signed header and body.

    Raises: `attest.quote_signature`.
    """
    key = raw_key(e.quote.attestation_key)
    if key is None or not verify_raw(key, e.quote.signature, e.quote.signed):
        raise Refusal(
            "attest.quote_signature",
            expected="header and body signed by the attestation key",
            found="other bytes, or another key",
        )
    return Passed("signed by the attestation key", "signed by the attestation key")


def _masked(value: bytes, expected: str, mask: str) -> tuple[str, str]:
    bits = bytes.fromhex(mask)
    return (
        bytes(a & b for a, b in zip(bytes.fromhex(expected), bits, strict=True)).hex(),
        bytes(a & b for a, b in zip(value, bits, strict=True)).hex(),
    )
