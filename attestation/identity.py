"""By what name evidence stands in the log: SHA-256 over exactly those bytes that signatures cover.

A quote's file has room that no signature covers: white space and NUL bytes around its PEM certificates, and
the signatures themselves (for each ECDSA signature (r, s), (r, n - s) holds too). A hash of the file would
give one quote many names. Here nothing enters that an adversary can change while the evidence stays valid.
The hash of the file as it came is a different number, fit for finding the file and for nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from attestation.certificates import Certificate
from attestation.collateral import Collateral
from attestation.quote import Quote

QUOTE_DOMAIN = b"fedslice/quote/v1"
COLLATERAL_DOMAIN = b"fedslice/collateral/v1"


def quote_identity(quote: Quote, pck_chain: Iterable[Certificate]) -> str:
    """Hex SHA-256 over header and body, attestation key, QE report, QE authentication data, and the signed
    part of each certificate."""
    parts = [quote.signed, quote.attestation_key, quote.qe_report.encode(), quote.qe_auth_data]
    return _name(QUOTE_DOMAIN, [*parts, *_signed_parts(pck_chain)])


def collateral_identity(collateral: Collateral) -> str:
    """Hex SHA-256 over the two documents and the signed part of each certificate and CRL."""
    chains = [*collateral.pck_crl_chain, *collateral.tcb_info_chain, *collateral.qe_identity_chain]
    crls = [collateral.root_ca_crl.tbs_certlist_bytes, collateral.pck_crl.tbs_certlist_bytes]
    documents = [collateral.tcb_info, collateral.qe_identity]
    return _name(COLLATERAL_DOMAIN, [*documents, *crls, *_signed_parts(chains)])


def _signed_parts(chain: Iterable[Certificate]) -> list[bytes]:
    return [certificate.tbs_certificate_bytes for certificate in chain]


def _name(domain: bytes, parts: list[bytes]) -> str:
    framed = b"".join(len(part).to_bytes(8) + part for part in parts)
    return hashlib.sha256(domain + b"\x00" + framed).hexdigest()
