"""Collateral: what Intel (or the development root) publishes to judge a quote by.

The nine fields of Intel's QuoteCollateralV3 as JSON; binary ones in hex. `tcb_info` and `qe_identity` are
JSON texts that were signed byte for byte, so they stay bytes here; `documents.py` reads them once their
signatures hold.

Source: Intel, "SGX ECDSA QuoteLibReference DCAP API", sgx_ql_qve_collateral_t.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from attestation.certificates import Certificate, Crl, load_chain, load_crl
from contracts.refusal import Refusal

MAX_COLLATERAL_BYTES = 4 * 1024 * 1024

FIELDS = (
    "pck_crl_issuer_chain",
    "root_ca_crl",
    "pck_crl",
    "tcb_info_issuer_chain",
    "tcb_info",
    "tcb_info_signature",
    "qe_identity_issuer_chain",
    "qe_identity",
    "qe_identity_signature",
)
# A tenth field, which some tools add: the quote's own PCK chain once more.
PCK_CHAIN_FIELD = "pck_certificate_chain"


@dataclass(frozen=True)
class Collateral:
    """Decoded, and nothing of it believed yet. Chains are leaf first; signatures are r ‖ s."""

    fields: dict[str, str]
    pck_crl_chain: tuple[Certificate, ...]
    root_ca_crl: Crl
    pck_crl: Crl
    tcb_info_chain: tuple[Certificate, ...]
    tcb_info: bytes
    tcb_info_signature: bytes
    qe_identity_chain: tuple[Certificate, ...]
    qe_identity: bytes
    qe_identity_signature: bytes
    pck_chain_copy: tuple[Certificate, ...] | None


def decode(fields: dict[str, str]) -> Collateral:
    """Decode the nine fields.

    Raises: `attest.collateral_malformed`, `attest.certificate_malformed` or `attest.crl_malformed`.
    """
    if odd := {*fields, PCK_CHAIN_FIELD} ^ {*FIELDS, PCK_CHAIN_FIELD}:
        unlisted = ", ".join(f"{'no' if name in FIELDS else 'unknown'} {name[:40]!a}" for name in sorted(odd))
        _malformed(f"its fields ({unlisted[:300]})", "the nine of QuoteCollateralV3, and no other")
    if not all(isinstance(value, str) for value in fields.values()):
        _malformed("its fields", "texts")
    if sum(len(value) for value in fields.values()) > MAX_COLLATERAL_BYTES:
        _malformed("its size", f"at most {MAX_COLLATERAL_BYTES} bytes")
    chains = {name: load_chain(_bytes(fields, name), f"field {name}") for name in FIELDS if "chain" in name}
    return Collateral(
        fields={name: fields[name] for name in FIELDS},
        pck_crl_chain=chains["pck_crl_issuer_chain"],
        root_ca_crl=load_crl(_unhex(fields, "root_ca_crl"), "root CA CRL"),
        pck_crl=load_crl(_unhex(fields, "pck_crl"), "PCK CRL"),
        tcb_info_chain=chains["tcb_info_issuer_chain"],
        tcb_info=_bytes(fields, "tcb_info"),
        tcb_info_signature=_unhex(fields, "tcb_info_signature"),
        qe_identity_chain=chains["qe_identity_issuer_chain"],
        qe_identity=_bytes(fields, "qe_identity"),
        qe_identity_signature=_unhex(fields, "qe_identity_signature"),
        pck_chain_copy=load_chain(_bytes(fields, PCK_CHAIN_FIELD), f"field {PCK_CHAIN_FIELD}")
        if PCK_CHAIN_FIELD in fields
        else None,
    )


def _bytes(fields: dict[str, str], name: str) -> bytes:
    try:
        return fields[name].encode()
    except UnicodeEncodeError:
        return _malformed(f"field {name}", "UTF-8")


def _unhex(fields: dict[str, str], name: str) -> bytes:
    if not re.fullmatch("(?:[0-9a-fA-F]{2})+", fields[name]):
        _malformed(f"field {name}", "hex")
    return bytes.fromhex(fields[name])


def _malformed(what: str, expected: str) -> Any:
    raise Refusal("attest.collateral_malformed", expected=expected, found=what)
