"""What only a trust domain (TDX) has: a TDX module, attributes, service TDs, and what was started in it.

Loaded where a quote is one of a trust domain (`attestation/checks/__init__.py`), and there alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from attestation.checks.configuration import Field, masked
from attestation.checks.examination import Examination, NotApplicable, Outcome, Passed
from attestation.quote import SgxReport
from attestation.td_report import TdReport
from attestation.td_tcb import module_identity
from contracts.launch import read_launches, rtmr3_after
from contracts.policy import TdxReference
from contracts.refusal import Refusal

# TD ATTRIBUTES (Intel TDX module ABI specification, table "ATTRIBUTES definition"). Bit 29 is MIGRATABLE in
# TDX 1.5: such a TD can leave its platform, which no check here could follow, so it counts as reserved.
TD_DEBUG = 1 << 0
TD_SEPT_VE_DISABLE = 1 << 28
TD_PKS = 1 << 30
TD_KL = 1 << 31
TD_PERFMON = 1 << 63
TD_ALLOWED = TD_SEPT_VE_DISABLE | TD_PKS | TD_KL | TD_PERFMON


def module(e: Examination) -> Outcome:
    """MRSIGNERSEAM and SEAMATTRIBUTES are those that Intel publishes for this version of the TDX module.

    Raises: `attest.tdx_module`.
    """
    report = _report(e)
    for svn in report.tee_tcb_svns:
        identity = module_identity(e.tcb_info, svn)
        mask = int.from_bytes(bytes.fromhex(identity.attributes_mask))
        wanted = int.from_bytes(bytes.fromhex(identity.attributes)) & mask
        # Bits outside the mask must be clear: Intel has given them no meaning yet.
        attributes = int.from_bytes(report.seam_attributes)
        if report.mrsigner_seam != bytes.fromhex(identity.mrsigner) or attributes != wanted:
            raise Refusal(
                "attest.tdx_module",
                expected=f"signer {identity.mrsigner.lower()}, attributes {wanted:016x}",
                found=f"signer {report.mrsigner_seam.hex()}, attributes {attributes:016x}",
            )
    return Passed("a TDX module as published", f"TEE TCB SVN {report.tee_tcb_svn.hex()}")


def attributes(e: Examination) -> Outcome:
    """SEPT_VE_DISABLE, and no reserved bit.

    Raises: `attest.reserved_attributes` or `attest.sept_ve_disable`.
    """
    bits = _report(e).td_attributes
    reserved = bits & ~(TD_ALLOWED | TD_DEBUG)
    if reserved:
        raise Refusal("attest.reserved_attributes", expected="no reserved bit", found=f"{reserved:016x}")
    if not bits & TD_SEPT_VE_DISABLE:
        raise Refusal("attest.sept_ve_disable", expected="SEPT_VE_DISABLE on", found=f"{bits:016x}")
    return Passed("SEPT_VE_DISABLE on, no reserved bit", f"{bits:016x}")


def service_td(e: Examination) -> Outcome:
    """No service TD (such as one for migration) stands beside the TD: MRSERVICETD is zero.

    Raises: `attest.service_td`.
    """
    found = _report(e).mrservicetd
    if found is None:
        return NotApplicable("this kind of report has no MRSERVICETD")
    if any(found):
        raise Refusal("attest.service_td", expected="zero", found=found.hex())
    return Passed("zero", "zero")


def fields(report: TdReport, reference: TdxReference) -> Iterator[Field]:
    """How the host started it (`configuration.py`)."""
    mask = reference.td_attributes_mask
    yield masked("TDATTRIBUTES", reference.td_attributes, report.td_attributes, mask)
    yield masked("XFAM", reference.xfam, int.from_bytes(report.xfam, "little"), reference.xfam_mask)
    yield "MRCONFIGID", reference.mrconfigid, report.mrconfigid.hex()
    yield "MROWNER", reference.mrowner, report.mrowner.hex()
    yield "MROWNERCONFIG", reference.mrownerconfig, report.mrownerconfig.hex()
    mrseam = report.mrseam.hex()
    known = not reference.mrseams or mrseam in reference.mrseams
    yield "MRSEAM", mrseam if known else " or ".join(reference.mrseams), mrseam


def launch(e: Examination) -> Outcome:
    """The launcher's event log replays to RTMR3 and tells of one start: that of the program which claims.

    Of *what* program is the policy's to say, whose reference value names RTMR3.

    Raises: `attest.event_log`, `attest.launched_program`, `attest.launches` or `attest.launches_missing`.
    """
    if e.policy is None:
        return NotApplicable("no policy was given: it is only asked whether the evidence is genuine")
    if e.event_log is None:
        raise Refusal("attest.launches_missing", expected="the launcher's event log", found="none")
    launches, register = read_launches(e.event_log), _report(e).rtmr3
    replayed = rtmr3_after(*(launch.digest for launch in launches))
    if replayed != register:
        raise Refusal("attest.event_log", what="RTMR3", expected=register.hex(), found=replayed.hex())
    started = ", ".join(launch.program for launch in launches)
    if len(launches) != 1:
        raise Refusal("attest.launches", expected="one program", found=started)
    if e.claims is not None and e.claims.program != started:
        raise Refusal("attest.launched_program", expected=e.claims.program, found=started)
    return Passed("one start, replayed to RTMR3", " ".join(launches[0].argv))


def _report(e: Examination) -> TdReport:
    report = e.quote.report
    if isinstance(report, SgxReport):
        raise TypeError("no trust domain")
    return report
