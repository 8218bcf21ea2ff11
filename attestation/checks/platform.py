"""Check groups 8 and 9: how good the platform's TCB is, and in what mode the enclave or TD runs."""

from __future__ import annotations

from attestation import tcb
from attestation.checks.examination import Examination, NotApplicable, Outcome, Passed
from attestation.quote import SgxReport, TdReport
from contracts.refusal import Refusal

# SGX ATTRIBUTES.FLAGS (Intel SDM volume 3D, table 35-3). Bit 6 is CET, 7 KSS, 10 AEX-Notify.
FLAG_INIT = 1 << 0
FLAG_DEBUG = 1 << 1
FLAG_MODE64 = 1 << 2
FLAG_PROVISION_KEY = 1 << 4
FLAG_EINITTOKEN_KEY = 1 << 5
FLAGS_KNOWN = 0b100_1111_0111

# TD ATTRIBUTES (Intel TDX module ABI specification, table "ATTRIBUTES definition"). Bit 29 is MIGRATABLE in
# TDX 1.5: such a TD can leave its platform, which no check here could follow, so it counts as reserved.
TD_DEBUG = 1 << 0
TD_SEPT_VE_DISABLE = 1 << 28
TD_PKS = 1 << 30
TD_KL = 1 << 31
TD_PERFMON = 1 << 63
TD_ALLOWED = TD_SEPT_VE_DISABLE | TD_PKS | TD_KL | TD_PERFMON


def tdx_module(e: Examination) -> Outcome:
    """MRSIGNERSEAM and SEAMATTRIBUTES are those that Intel publishes for this version of the TDX module."""
    report = e.quote.report
    if isinstance(report, SgxReport):
        return NotApplicable("an SGX enclave has no TDX module")
    for svn in _tee_tcb_svns(report):
        identity = tcb.module_identity(e.tcb_info, svn)
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


def tcb_level(e: Examination) -> Outcome:
    """The level that platform, TDX module and quoting enclave reach together is not revoked.

    TDX 1.5 reports two TEE_TCB_SVN, at the TD's launch and now: `tcb.relaunch` weighs them.
    """
    report = e.quote.report
    svns = [None] if isinstance(report, SgxReport) else _tee_tcb_svns(report)
    evaluations = [tcb.evaluate(e.tcb_info, e.platform, e.qe_level, svn) for svn in svns]
    e.evaluation = evaluations[0] if len(evaluations) == 1 else tcb.relaunch(*evaluations)
    status, advisories = e.evaluation
    found = " ".join([status, *advisories])
    if status == "Revoked":
        raise Refusal("attest.tcb_revoked", expected="a TCB level that is not revoked", found=found)
    return Passed("a TCB level that is not revoked", found)


def debug(e: Examination) -> Outcome:
    """Nobody can read its memory by opening it in debug mode."""
    report = e.quote.report
    flags, bit = (
        (report.flags, FLAG_DEBUG) if isinstance(report, SgxReport) else (report.td_attributes, TD_DEBUG)
    )
    if flags & bit:
        raise Refusal("attest.debug", expected="debug off", found=f"debug on (attributes {flags:016x})")
    return Passed("debug off", f"attributes {flags:016x}")


def attributes(e: Examination) -> Outcome:
    """SGX: initialised, 64 bit, without provisioning or launch key. TDX: SEPT_VE_DISABLE. No reserved bit."""
    report = e.quote.report
    if isinstance(report, SgxReport):
        if not report.flags & FLAG_INIT:
            raise Refusal("attest.not_initialised", expected="initialised", found=f"{report.flags:016x}")
        if not report.flags & FLAG_MODE64:
            raise Refusal("attest.not_64_bit", expected="64-bit mode", found=f"{report.flags:016x}")
        if report.flags & (FLAG_PROVISION_KEY | FLAG_EINITTOKEN_KEY):
            raise Refusal(
                "attest.provisioning_key",
                expected="no provisioning or launch key",
                found=f"{report.flags:016x}",
            )
        _no_reserved_bit(report.flags & ~FLAGS_KNOWN)
        return Passed("initialised, 64 bit, no provisioning or launch key", f"{report.flags:016x}")
    bits = report.td_attributes
    _no_reserved_bit(bits & ~(TD_ALLOWED | TD_DEBUG))
    if not bits & TD_SEPT_VE_DISABLE:
        raise Refusal("attest.sept_ve_disable", expected="SEPT_VE_DISABLE on", found=f"{bits:016x}")
    return Passed("SEPT_VE_DISABLE on, no reserved bit", f"{bits:016x}")


def _no_reserved_bit(reserved: int) -> None:
    if reserved:
        raise Refusal("attest.reserved_attributes", expected="no reserved bit", found=f"{reserved:016x}")


def reserved(e: Examination) -> Outcome:
    """Reserved bytes are zero: what they will come to mean, this verifier cannot know."""
    report, fields = e.quote.report, {"header": e.quote.header.reserved}
    if isinstance(report, SgxReport):
        # The header's bytes are SVNs of QE and PCE in a quote v3, which the QE's own report and the PCK tell.
        parts = (report.reserved1, report.reserved2, report.reserved3, report.reserved4)
        fields = {f"report, part {number}": part for number, part in enumerate(parts, start=1)}
    for name, value in fields.items():
        if any(value):
            raise Refusal("attest.reserved_bytes", what=name, expected="zero", found=value.hex())
    return Passed("zero", "zero")


def service_td(e: Examination) -> Outcome:
    """No service TD (such as one for migration) stands beside the TD: MRSERVICETD is zero."""
    report = e.quote.report
    if isinstance(report, SgxReport) or report.mrservicetd is None:
        return NotApplicable("this kind of report has no MRSERVICETD")
    if any(report.mrservicetd):
        raise Refusal("attest.service_td", expected="zero", found=report.mrservicetd.hex())
    return Passed("zero", "zero")


def _tee_tcb_svns(report: TdReport) -> list[bytes]:
    return [svn for svn in (report.tee_tcb_svn, report.tee_tcb_svn2) if svn is not None]
