"""Check groups 10 and 11: nothing older than was seen, and what the relying party's policy accepts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.certificates import crl_number, iso
from attestation.checks.examination import Examination, NotApplicable, Outcome, Passed
from attestation.documents import unix
from attestation.quote import SgxReport
from contracts.policy import Reference, SgxReference
from contracts.refusal import Refusal

if TYPE_CHECKING:
    from attestation.td_report import TdReport

NO_POLICY = NotApplicable("no policy was given: it is only asked whether the evidence is genuine")


def tcb_evaluation_floor(e: Examination) -> Outcome:
    """Both evaluation numbers are at least what was seen and what the policy asks for."""
    seen = e.floor
    policy = e.policy.minimum_tcb_evaluation if e.policy else 0
    found = (e.tcb_info.tcb_evaluation_data_number, e.qe_identity.tcb_evaluation_data_number)
    least = (max(seen.tcb_evaluation, policy), max(seen.qe_evaluation, policy))
    return _at_least("attest.tcb_evaluation_floor", ("TCB info", "QE identity"), least, found)


def crl_floor(e: Examination) -> Outcome:
    """Both CRL numbers are at least what was seen and what the policy names."""
    seen = e.floor
    found = (crl_number(e.collateral.root_ca_crl), crl_number(e.collateral.pck_crl))
    least = (seen.root_ca_crl_number, seen.pck_crl_number)
    return _at_least("attest.crl_floor", ("root CA CRL", "PCK CRL"), least, found)


def issue_floor(e: Examination) -> Outcome:
    """No part was issued before the policy's floor: a revocation made by then is in it.

    Raises: `attest.issue_floor`.
    """
    seen, c = e.floor, e.collateral
    dates = {
        "TCB info": (seen.tcb_info_issued, unix(e.tcb_info.issue_date)),
        "QE identity": (seen.qe_identity_issued, unix(e.qe_identity.issue_date)),
        "root CA CRL": (seen.root_ca_crl_issued, int(c.root_ca_crl.last_update_utc.timestamp())),
        "PCK CRL": (seen.pck_crl_issued, int(c.pck_crl.last_update_utc.timestamp())),
    }
    expected = ", ".join(f"{name} from {iso(least)} on" for name, (least, _) in dates.items())
    found = ", ".join(f"{name} of {iso(issued)}" for name, (_, issued) in dates.items())
    if any(issued < least for least, issued in dates.values()):
        raise Refusal("attest.issue_floor", expected=expected, found=found)
    return Passed(expected, found)


def status(e: Examination) -> Outcome:
    """The merged TCB status is one that the policy lists.

    Raises: `attest.status`.
    """
    if e.policy is None:
        return NO_POLICY
    accepted = ", ".join(e.policy.accepted_statuses)
    if e.evaluation.status not in e.policy.accepted_statuses:
        raise Refusal("attest.status", expected=f"one of: {accepted}", found=e.evaluation.status)
    return Passed(f"one of: {accepted}", e.evaluation.status)


def advisories(e: Examination) -> Outcome:
    """Each advisory that keeps the platform from UpToDate is one that the policy lists.

    Raises: `attest.advisory`.
    """
    if e.policy is None:
        return NO_POLICY
    if e.evaluation.status == "UpToDate":
        return NotApplicable("the platform is up to date")
    accepted = ", ".join(e.policy.accepted_advisories) or "none"
    unknown = [a for a in e.evaluation.advisories if a not in e.policy.accepted_advisories]
    if unknown:
        raise Refusal("attest.advisory", expected=f"only: {accepted}", found=", ".join(unknown))
    return Passed(f"only: {accepted}", ", ".join(e.evaluation.advisories) or "none")


def measurement(e: Examination) -> Outcome:
    """The enclave or TD is one of the policy's reference values, for the program that was expected.

    Raises: `attest.measurement` or `attest.svn_too_low`.
    """
    if e.policy is None:
        return NO_POLICY
    program = e.expected.program if e.expected else None
    references = [r for r in e.policy.references if program in (None, r.program)]
    report = e.quote.report
    e.references = [reference for reference in references if _is(report, reference)]
    if e.references:
        return Passed(_words(e.references[0]), _found(report))
    older = [r for r in references if isinstance(r, SgxReference) and _is(report, r, any_svn=True)]
    if older:
        least = min(reference.minimum_svn or 0 for reference in older)
        raise Refusal("attest.svn_too_low", expected=f"SVN {least} or more", found=_found(report))
    expected = "; ".join(_words(reference) for reference in references[:8]) or "none for this program"
    raise Refusal("attest.measurement", expected=expected, found=_found(report))


def _is(report: SgxReport | TdReport, reference: Reference, *, any_svn: bool = False) -> bool:
    if isinstance(reference, SgxReference):
        return isinstance(report, SgxReport) and _is_enclave(report, reference, any_svn)
    return not isinstance(report, SgxReport) and report.measurement == reference.measurement


def _is_enclave(report: SgxReport, reference: SgxReference, any_svn: bool) -> bool:
    """By MRENCLAVE, by MRSIGNER with product id and minimum SVN, or by all of them where all are given."""
    whole = (reference.mrsigner, reference.product_id, reference.minimum_svn)
    if reference.mrenclave is None and None in whole:
        return False
    return (
        reference.mrenclave in (None, report.mrenclave.hex())
        and reference.mrsigner in (None, report.mrsigner.hex())
        and reference.product_id in (None, report.product_id)
        and (any_svn or report.svn >= (reference.minimum_svn or 0))
    )


def _words(reference: Reference) -> str:
    if not isinstance(reference, SgxReference):
        return f"{reference.program}: MRTD {reference.mrtd}, RTMRs {', '.join(reference.rtmrs)}"
    parts = {
        "MRENCLAVE": reference.mrenclave,
        "MRSIGNER": reference.mrsigner,
        "product": reference.product_id,
        "SVN from": reference.minimum_svn,
    }
    given = [f"{name} {value}" for name, value in parts.items() if value is not None]
    return f"{reference.program}: {', '.join(given)}"


def _found(report: SgxReport | TdReport) -> str:
    if isinstance(report, SgxReport):
        return (
            f"MRENCLAVE {report.mrenclave.hex()}, MRSIGNER {report.mrsigner.hex()}, "
            f"product {report.product_id}, SVN {report.svn}"
        )
    return f"MRTD {report.mrtd.hex()}, RTMRs {', '.join(register.hex() for register in report.rtmrs)}"


def _at_least(code: str, names: tuple[str, str], least: tuple[int, int], found: tuple[int, int]) -> Outcome:
    expected = ", ".join(f"{name} {number} or more" for name, number in zip(names, least, strict=True))
    values = ", ".join(f"{name} {number}" for name, number in zip(names, found, strict=True))
    if any(number < floor for number, floor in zip(found, least, strict=True)):
        raise Refusal(code, expected=expected, found=values)
    return Passed(expected, values)
