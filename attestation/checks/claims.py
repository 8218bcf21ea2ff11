"""Check groups 3 and 12: the evidence answers *this* relying party, and the quote binds what it claims.

That a nonce was issued by us, has not expired and is used once is for the relying party to keep.
"""

from __future__ import annotations

import hmac

from attestation.checks.examination import Examination, NotApplicable, Outcome, Passed
from contracts.evidence import Claims, report_data
from contracts.refusal import Refusal

OFFLINE = NotApplicable("no relying party asked: the evidence is looked at offline")


def nonce(e: Examination) -> Outcome:
    """The claims carry the nonce that the relying party issued."""
    return _claim(e, "nonce")


def manifest(e: Examination) -> Outcome:
    """The claims name the manifest that the relying party approved."""
    return _claim(e, "manifest")


def program(e: Examination) -> Outcome:
    """The claims name the program that the relying party wants to talk to."""
    return _claim(e, "program")


def binding(e: Examination) -> Outcome:
    """The quote's report data is the hash of the claims, keys included.

    Raises: `attest.report_data`.
    """
    if e.expected is None:
        return OFFLINE
    expected, found = report_data(_claims(e)), e.quote.report.report_data
    if not hmac.compare_digest(expected, found):
        raise Refusal("attest.report_data", expected=expected.hex(), found=found.hex())
    return Passed(expected.hex(), found.hex())


def _claim(e: Examination, name: str) -> Outcome:
    if e.expected is None:
        return OFFLINE
    expected, found = getattr(e.expected, name), getattr(_claims(e), name)
    if expected != found:
        raise Refusal(f"attest.{name}", expected=expected, found=found)
    return Passed(expected, found)


def _claims(e: Examination) -> Claims:
    """A relying party that expects something is never content with evidence that claims nothing."""
    if e.claims is None:
        raise Refusal("attest.report_data", expected="claims", found="none")
    return e.claims
