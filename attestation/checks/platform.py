"""Check groups 8 and 9: how good the platform's TCB is, and in what mode the enclave or TD runs."""

from __future__ import annotations

from collections.abc import Callable

from attestation import tcb
from attestation.checks.examination import Examination, NotApplicable, Outcome, Passed
from attestation.quote import SgxReport
from contracts.refusal import Refusal

# SGX ATTRIBUTES.FLAGS (Intel SDM volume 3D, table 35-3). Bit 6 is CET, 7 KSS, 10 AEX-Notify.
FLAG_INIT = 1 << 0
FLAG_DEBUG = 1 << 1
FLAG_MODE64 = 1 << 2
FLAG_PROVISION_KEY = 1 << 4
FLAG_EINITTOKEN_KEY = 1 << 5
FLAGS_KNOWN = 0b100_1111_0111

TD_DEBUG = 1 << 0


def in_a_td(check: str) -> Callable[[Examination], Outcome]:
    """A check of `trust_domain.py`, which is not loaded where nobody shows a trust domain."""

    def step(e: Examination) -> Outcome:
        if isinstance(e.quote.report, SgxReport):
            return NotApplicable("an SGX enclave is no trust domain")
        from attestation.checks import trust_domain

        outcome: Outcome = getattr(trust_domain, check)(e)
        return outcome

    return step


def tcb_level(e: Examination) -> Outcome:
    """The level that platform, TDX module and quoting enclave reach together is not revoked.

    TDX 1.5 reports two TEE_TCB_SVN, at the TD's launch and now: `td_tcb.relaunch` weighs them.

    Raises: `attest.tcb_revoked`.
    """
    report = e.quote.report
    svns = (None,) if isinstance(report, SgxReport) else report.tee_tcb_svns
    evaluations = [tcb.evaluate(e.tcb_info, e.platform, e.qe_level, svn) for svn in svns]
    e.evaluation = evaluations[0]
    if len(evaluations) > 1:
        from attestation.td_tcb import relaunch

        e.evaluation = relaunch(*evaluations)
    status, advisories = e.evaluation
    found = " ".join([status, *advisories])
    if status == "Revoked":
        raise Refusal("attest.tcb_revoked", expected="a TCB level that is not revoked", found=found)
    return Passed("a TCB level that is not revoked", found)


def debug(e: Examination) -> Outcome:
    """Nobody can read its memory by opening it in debug mode.

    Raises: `attest.debug`.
    """
    report = e.quote.report
    flags, bit = (
        (report.flags, FLAG_DEBUG) if isinstance(report, SgxReport) else (report.td_attributes, TD_DEBUG)
    )
    if flags & bit:
        raise Refusal("attest.debug", expected="debug off", found=f"debug on (attributes {flags:016x})")
    return Passed("debug off", f"attributes {flags:016x}")


def attributes(e: Examination) -> Outcome:
    """SGX: initialised, 64 bit, without provisioning or launch key. No reserved bit.

    Raises: `attest.not_64_bit`, `attest.not_initialised`, `attest.provisioning_key` or
    `attest.reserved_attributes`.
    """
    report = e.quote.report
    if not isinstance(report, SgxReport):
        return in_a_td("attributes")(e)
    if not report.flags & FLAG_INIT:
        raise Refusal("attest.not_initialised", expected="initialised", found=f"{report.flags:016x}")
    if not report.flags & FLAG_MODE64:
        raise Refusal("attest.not_64_bit", expected="64-bit mode", found=f"{report.flags:016x}")
    if report.flags & (FLAG_PROVISION_KEY | FLAG_EINITTOKEN_KEY):
        raise Refusal(
            "attest.provisioning_key", expected="no provisioning or launch key", found=f"{report.flags:016x}"
        )
    reserved = report.flags & ~FLAGS_KNOWN
    if reserved:
        raise Refusal("attest.reserved_attributes", expected="no reserved bit", found=f"{reserved:016x}")
    return Passed("initialised, 64 bit, no provisioning or launch key", f"{report.flags:016x}")


def reserved(e: Examination) -> Outcome:
    """Reserved bytes are zero: what they will come to mean, this verifier cannot know.

    Raises: `attest.reserved_bytes`.
    """
    report, fields = e.quote.report, {"header": e.quote.header.reserved}
    if isinstance(report, SgxReport):
        # The header's bytes are SVNs of QE and PCE in a quote v3, which the QE's own report and the PCK tell.
        parts = (report.reserved1, report.reserved2, report.reserved3, report.reserved4)
        fields = {f"report, part {number}": part for number, part in enumerate(parts, start=1)}
    for name, value in fields.items():
        if any(value):
            raise Refusal("attest.reserved_bytes", what=name, expected="zero", found=value.hex())
    return Passed("zero", "zero")
