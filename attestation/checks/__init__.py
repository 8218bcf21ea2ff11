"""The verifier's own checks, in the order in which they run. Their names are stable: bundles show them."""

from __future__ import annotations

from collections.abc import Callable

from attestation.checks import (
    acceptance,
    chain,
    claims,
    configuration,
    format,
    platform,
    quoting,
    signed_documents,
)
from attestation.checks.examination import Examination, Outcome

CHECKS: tuple[tuple[str, Callable[[Examination], Outcome]], ...] = (
    ("quote.format", format.quote_format),
    ("collateral.format", format.collateral_format),
    ("root", chain.root),
    ("claims.nonce", claims.nonce),
    ("claims.manifest", claims.manifest),
    ("claims.program", claims.program),
    ("pck.chain", chain.pck_chain),
    ("crl.root", chain.root_crl),
    ("crl.pck", chain.pck_crl),
    ("tcb_info.signature", signed_documents.tcb_info_signature),
    ("tcb_info.dates", signed_documents.tcb_info_dates),
    ("tcb_info.platform", signed_documents.tcb_info_platform),
    ("qe_identity.signature", signed_documents.qe_identity_signature),
    ("qe_identity.dates", signed_documents.qe_identity_dates),
    ("qe.signature", quoting.qe_signature),
    ("qe.binding", quoting.qe_binding),
    ("qe.identity", quoting.qe_identity),
    ("quote.signature", quoting.quote_signature),
    ("tcb.module", platform.in_a_td("module")),
    ("tcb.level", platform.tcb_level),
    ("attributes.debug", platform.debug),
    ("attributes.mode", platform.attributes),
    ("attributes.reserved", platform.reserved),
    ("attributes.service_td", platform.in_a_td("service_td")),
    ("floors.tcb_evaluation", acceptance.tcb_evaluation_floor),
    ("floors.crl", acceptance.crl_floor),
    ("floors.issued", acceptance.issue_floor),
    ("policy.status", acceptance.status),
    ("policy.advisories", acceptance.advisories),
    ("policy.launch", platform.in_a_td("launch")),
    ("policy.measurement", acceptance.measurement),
    ("policy.configuration", configuration.configuration),
    ("report_data", claims.binding),
)

# Once this one has passed, every byte of the evidence's name is covered by a verified signature.
SIGNED = "quote.signature"
