"""What a set of collateral is about, who signed it, and when each of its parts ends.

The verifier judges collateral again with every quote; this is the look at the door of the cache, so that
nothing stands in it that could never serve. Formats: attestation/collateral.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
    p256_key,
    verify_raw,
)
from attestation.checks.chain import PCK_CA_ROLE, ROOT_ROLE
from attestation.checks.signed_documents import TCB_SIGNING_ROLE
from attestation.collateral import Collateral, decode
from attestation.documents import QeIdentity, TcbInfo, read_signed, unix
from contracts.refusal import Refusal


@dataclass(frozen=True)
class DatedPart:
    """One dated part of a set; both ends are Unix seconds, the last one included but for CRLs."""

    name: str
    start: int
    end: int


@dataclass(frozen=True)
class CollateralFacts:
    """`fmspc` is hex, `ca` the PCK CA (processor or platform), `tee` sgx or tdx."""

    root_sha256: str
    tee: str
    fmspc: str
    ca: str
    tcb_evaluation: int
    qe_evaluation: int
    root_ca_crl_number: int
    pck_crl_number: int
    issued: int
    parts: tuple[DatedPart, ...]

    @property
    def expires(self) -> int:
        """When the first part ends."""
        return min(part.end for part in self.parts)


def examine(fields: dict[str, str], roots: set[str], at: int) -> CollateralFacts:
    """Check the signatures under one of the accepted `roots` (SHA-256 of DER) and all dates, at Unix `at`.

    Raises: `collateral.stale` where a part has ended, else the verifier's own codes (`attest.*`).
    """
    collateral = decode(fields)
    pck_ca, root = _pck_ca(collateral, roots)
    tcb_info, qe_identity = (
        read_signed(collateral.tcb_info, TcbInfo),
        read_signed(collateral.qe_identity, QeIdentity),
    )
    parts = _parts(collateral, tcb_info, qe_identity)
    ended = min(parts, key=lambda part: part.end)
    if at >= ended.end:
        raise Refusal("collateral.stale", part=ended.name, expired=ended.end, at=at)
    future = max(parts, key=lambda part: part.start)
    if at < future.start:
        raise Refusal("collateral.from_the_future", part=future.name, valid_from=future.start, at=at)
    check_authority(root, ROOT_ROLE, "root")
    check_period(root, at, "root")
    check_authority(pck_ca, PCK_CA_ROLE, "PCK CA")
    check_issued(pck_ca, root, "PCK CA")
    check_crl(collateral.root_ca_crl, root, at, "root CA CRL")
    check_not_revoked(pck_ca, collateral.root_ca_crl, "PCK CA")
    check_crl(collateral.pck_crl, pck_ca, at, "PCK CRL")
    for text, signature, chain, code in (
        (collateral.tcb_info, collateral.tcb_info_signature, collateral.tcb_info_chain, "tcb_info"),
        (collateral.qe_identity, collateral.qe_identity_signature, collateral.qe_identity_chain,
         "qe_identity"),
    ):  # fmt: skip
        _check_signed(text, signature, chain, root, collateral, code)
    tee = tcb_info.id.lower()
    if qe_identity.id != {"sgx": "QE", "tdx": "TD_QE"}[tee]:
        raise Refusal("attest.qe_identity_kind", expected=tee, found=qe_identity.id)
    return CollateralFacts(
        root_sha256=fingerprint(root),
        tee=tee,
        fmspc=tcb_info.fmspc.lower(),
        ca="processor" if "Processor" in common_name(pck_ca) else "platform",
        tcb_evaluation=tcb_info.tcb_evaluation_data_number,
        qe_evaluation=qe_identity.tcb_evaluation_data_number,
        root_ca_crl_number=crl_number(collateral.root_ca_crl),
        pck_crl_number=crl_number(collateral.pck_crl),
        issued=min(unix(tcb_info.issue_date), unix(qe_identity.issue_date)),
        parts=parts,
    )


def _pck_ca(collateral: Collateral, roots: set[str]) -> tuple[Certificate, Certificate]:
    chains = (collateral.pck_crl_chain, collateral.tcb_info_chain, collateral.qe_identity_chain)
    for chain in chains:
        if len(chain) != 2:
            raise Refusal(
                "attest.chain_broken", what="an issuer chain", expected="signer, root", found=str(len(chain))
            )
    found = {fingerprint(chain[1]) for chain in chains}
    if len(found) != 1 or not found <= roots:
        raise Refusal(
            "attest.root_untrusted", expected=" or ".join(sorted(roots)), found=", ".join(sorted(found))
        )
    return collateral.pck_crl_chain[0], collateral.pck_crl_chain[1]


def _check_signed(
    text: bytes,
    signature: bytes,
    chain: tuple[Certificate, ...],
    root: Certificate,
    collateral: Collateral,
    code: str,
) -> None:
    signer, words = chain[0], f"signer of {code}"
    check_end_entity(signer, TCB_SIGNING_ROLE, words)
    check_issued(signer, root, words)
    check_not_revoked(signer, collateral.root_ca_crl, words)
    if not verify_raw(p256_key(signer, words), signature, text):
        raise Refusal(f"attest.{code}_signature", expected=common_name(signer), found="another text or key")


def _parts(collateral: Collateral, tcb_info: TcbInfo, qe_identity: QeIdentity) -> tuple[DatedPart, ...]:
    def seconds(moment: Any) -> int:
        return int(moment.timestamp()) if moment is not None else 0

    crls = {"root CA CRL": collateral.root_ca_crl, "PCK CRL": collateral.pck_crl}
    certificates = {
        "PCK CA certificate": collateral.pck_crl_chain[0],
        "TCB info signing certificate": collateral.tcb_info_chain[0],
        "QE identity signing certificate": collateral.qe_identity_chain[0],
    }
    documents: dict[str, TcbInfo | QeIdentity] = {"TCB info": tcb_info, "QE identity": qe_identity}
    return (
        *(DatedPart(name, unix(doc.issue_date), unix(doc.next_update)) for name, doc in documents.items()),
        *(
            DatedPart(name, seconds(crl.last_update_utc), seconds(crl.next_update_utc))
            for name, crl in crls.items()
        ),
        *(
            DatedPart(name, seconds(one.not_valid_before_utc), seconds(one.not_valid_after_utc))
            for name, one in certificates.items()
        ),
    )
