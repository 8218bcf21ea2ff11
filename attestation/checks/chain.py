"""Check groups 2 and 4: the accepted root, the PCK chain under it, and both revocation lists."""

from __future__ import annotations

from attestation.certificates import (
    Certificate,
    check_authority,
    check_crl,
    check_end_entity,
    check_issued,
    check_not_revoked,
    check_period,
    common_name,
    crl_number,
    fingerprint,
    iso,
    same_authority,
)
from attestation.checks.examination import INTEL_ROOT_SHA256, Examination, Outcome, Passed
from attestation.pck import read_platform
from contracts.refusal import Refusal

DEVELOPMENT_MARK = "DEVELOPMENT ONLY"
ROOT_ROLE = "SGX Root CA"
PCK_CA_ROLE = "SGX PCK"
PCK_ROLE = "SGX PCK Certificate"


def root(e: Examination) -> Outcome:
    """The root that came with the quote is the one that the policy pins: Intel's, or this installation's.

    Raises: `attest.policy_root` or `attest.root_unmarked`.
    """
    accepted = "Intel" if e.policy is None or e.policy.root == "intel" else "development"
    if (accepted == "Intel") != (e.root_sha256 == INTEL_ROOT_SHA256):
        raise Refusal("attest.policy_root", expected=f"{accepted} root", found=e.root_sha256)
    check_pinned(e, e.root, "root of the quote")
    if accepted == "development" and DEVELOPMENT_MARK not in common_name(e.root):
        raise Refusal("attest.root_unmarked", expected=DEVELOPMENT_MARK, found=common_name(e.root))
    check_authority(e.root, ROOT_ROLE, "root")
    check_period(e.root, e.at, "root")
    return Passed(f"{accepted} root {e.root_sha256}", f"{common_name(e.root)} {fingerprint(e.root)}")


def check_pinned(e: Examination, certificate: Certificate, what: str) -> None:
    """This certificate is the accepted root.

    Raises: `attest.root_untrusted`.
    """
    found = fingerprint(certificate)
    if found != e.root_sha256:
        raise Refusal(
            "attest.root_untrusted",
            what=what,
            expected=e.root_sha256,
            found=f"{found} ({common_name(certificate)})",
        )


def pck_chain(e: Examination) -> Outcome:
    """Root → PCK CA → PCK: signatures, roles, dates, and what the PCK says of its platform.

    Raises: `attest.chain_broken`.
    """
    if len(e.pck_chain) != 3:
        raise Refusal(
            "attest.chain_broken",
            what="PCK certificate chain",
            expected="PCK, PCK CA, root",
            found=f"{len(e.pck_chain)} certificates",
        )
    check_authority(e.pck_ca, PCK_CA_ROLE, "PCK CA")
    check_issued(e.pck_ca, e.root, "PCK CA")
    check_end_entity(e.pck, PCK_ROLE, "PCK certificate")
    check_issued(e.pck, e.pck_ca, "PCK certificate")
    for certificate, what in ((e.pck_ca, "PCK CA"), (e.pck, "PCK certificate")):
        check_period(certificate, e.at, what)
    copy = e.collateral.pck_chain_copy
    if copy is not None and copy != e.pck_chain:
        raise Refusal(
            "attest.chain_broken",
            what="PCK chain in the collateral",
            expected="the quote's own",
            found="another",
        )
    e.platform = read_platform(e.pck)
    return Passed("PCK, PCK CA, root", " ← ".join(common_name(certificate) for certificate in e.pck_chain))


def root_crl(e: Examination) -> Outcome:
    """The root's list is signed by the root, in date, and does not name the root or the PCK CA."""
    crl = e.collateral.root_ca_crl
    check_crl(crl, e.root, e.at, "root CA CRL")
    check_not_revoked(e.root, crl, "root")
    check_not_revoked(e.pck_ca, crl, "PCK CA")
    return Passed(f"signed by {common_name(e.root)}, in date", f"number {crl_number(crl)} at {iso(e.at)}")


def pck_crl(e: Examination) -> Outcome:
    """The PCK CA's list is signed by the PCK's own issuer, in date, and does not name the PCK."""
    issuer = _pck_crl_issuer(e)
    crl = e.collateral.pck_crl
    check_crl(crl, issuer, e.at, "PCK CRL")
    check_not_revoked(e.pck, crl, "PCK certificate")
    return Passed(f"signed by {common_name(e.pck_ca)}, in date", f"number {crl_number(crl)} at {iso(e.at)}")


def _pck_crl_issuer(e: Examination) -> Certificate:
    """The list's own issuer chain must hold too: PCK CA, root. The CA may have been certified again."""
    chain = e.collateral.pck_crl_chain
    what = "issuer of the PCK CRL"
    if len(chain) != 2:
        raise Refusal(
            "attest.chain_broken", what=what, expected="PCK CA, root", found=f"{len(chain)} certificates"
        )
    check_pinned(e, chain[1], f"root of the {what}")
    check_authority(chain[0], PCK_CA_ROLE, what)
    check_issued(chain[0], e.root, what)
    check_period(chain[0], e.at, what)
    check_not_revoked(chain[0], e.collateral.root_ca_crl, what)
    if not same_authority(chain[0], e.pck_ca, what):
        raise Refusal(
            "attest.crl_issuer",
            what="PCK CRL",
            expected=f"signed by {common_name(e.pck_ca)}",
            found=f"signed by {common_name(chain[0])}",
        )
    return chain[0]
