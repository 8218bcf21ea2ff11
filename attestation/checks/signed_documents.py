"""Check group 5: TCB info and QE identity are signed for that purpose, in date, and about this platform."""

from __future__ import annotations

from attestation.certificates import (
    Certificate,
    check_end_entity,
    check_issued,
    check_not_revoked,
    check_period,
    common_name,
    p256_key,
    verify_raw,
    window,
)
from attestation.checks.chain import check_pinned
from attestation.checks.examination import Examination, Outcome, Passed
from attestation.documents import QeIdentity, TcbInfo, read_signed, unix
from attestation.pck import has_extension
from contracts.refusal import Refusal

TCB_SIGNING_ROLE = "SGX TCB Signing"
QE_IDENTITY_OF = {"sgx": "QE", "tdx": "TD_QE"}


def tcb_info_signature(e: Examination) -> Outcome:
    """The TCB info is signed, byte for byte, by a TCB-signing certificate under the accepted root."""
    c = e.collateral
    found = _check_signed(e, c.tcb_info, c.tcb_info_signature, c.tcb_info_chain, "TCB info", "tcb_info")
    e.tcb_info = read_signed(c.tcb_info, TcbInfo)
    return found


def tcb_info_dates(e: Examination) -> Outcome:
    """issueDate ≤ at ≤ nextUpdate."""
    return _check_dates(e, e.tcb_info, "tcb_info")


def tcb_info_platform(e: Examination) -> Outcome:
    """It is about this kind of TEE, this FMSPC and this PCEID.

    Raises: `attest.fmspc`, `attest.pce_id` or `attest.tcb_info_kind`.
    """
    info, platform = e.tcb_info, e.platform
    if info.id != e.quote.tee.upper():
        raise Refusal("attest.tcb_info_kind", expected=e.quote.tee.upper(), found=info.id)
    if bytes.fromhex(info.fmspc) != platform.fmspc:
        raise Refusal("attest.fmspc", expected=platform.fmspc.hex(), found=info.fmspc.lower())
    if bytes.fromhex(info.pce_id) != platform.pce_id:
        raise Refusal("attest.pce_id", expected=platform.pce_id.hex(), found=info.pce_id.lower())
    compared = f"{e.quote.tee.upper()}, FMSPC {platform.fmspc.hex()}, PCEID {platform.pce_id.hex()}"
    return Passed(compared, compared)


def qe_identity_signature(e: Examination) -> Outcome:
    """The QE identity is signed in the same way, and is for the quoting enclave of this kind of TEE.

    Raises: `attest.qe_identity_kind`.
    """
    c = e.collateral
    found = _check_signed(
        e, c.qe_identity, c.qe_identity_signature, c.qe_identity_chain, "QE identity", "qe_identity"
    )
    e.qe_identity = read_signed(c.qe_identity, QeIdentity)
    wanted = QE_IDENTITY_OF[e.quote.tee]
    if e.qe_identity.id != wanted:
        raise Refusal("attest.qe_identity_kind", expected=wanted, found=e.qe_identity.id)
    return found


def qe_identity_dates(e: Examination) -> Outcome:
    """issueDate ≤ at ≤ nextUpdate."""
    return _check_dates(e, e.qe_identity, "qe_identity")


def _check_signed(
    e: Examination,
    text: bytes,
    signature: bytes,
    chain: tuple[Certificate, ...],
    what: str,
    code: str,
) -> Outcome:
    signer, words = chain[0], f"signer of the {what}"
    try:
        check_end_entity(signer, TCB_SIGNING_ROLE, words)
        genuine = not has_extension(signer)
    except Refusal:
        genuine = False
    if not genuine:
        raise Refusal(
            "attest.tcb_signer",
            what=what,
            expected=TCB_SIGNING_ROLE,
            found=common_name(signer) or "a certificate without a name",
        )
    if len(chain) != 2:
        raise Refusal(
            "attest.chain_broken",
            what=words,
            expected="TCB signing, root",
            found=f"{len(chain)} certificates",
        )
    check_pinned(e, chain[1], f"root of the {words}")
    check_issued(signer, e.root, words)
    check_period(signer, e.at, words)
    check_not_revoked(signer, e.collateral.root_ca_crl, words)
    if not verify_raw(p256_key(signer, words), signature, text):
        raise Refusal(
            f"attest.{code}_signature",
            expected=f"signed by {common_name(signer)}",
            found="another text, or another key",
        )
    return Passed(f"signed by {TCB_SIGNING_ROLE}", f"signed by {common_name(signer)}")


def _check_dates(e: Examination, document: TcbInfo | QeIdentity, code: str) -> Outcome:
    start, end = unix(document.issue_date), unix(document.next_update)
    facts = window(start, end, e.at)
    if e.at < start:
        raise Refusal(f"attest.{code}_not_yet_valid", **facts)
    if e.at > end:
        raise Refusal(f"attest.{code}_expired", **facts)
    return Passed(**facts)
