"""A site's endorsement of its client slice: the site's key signs the claims of the evidence.

Any genuine client slice has the right measurement; the endorsement says which one is the site's own.
"""

from __future__ import annotations

from contracts.evidence import Claims
from contracts.refusal import Refusal
from contracts.signing import SigningKey, verify

ENDORSEMENT_DOMAIN = "fedslice/endorsement/v1"


def endorsement_payload(claims: Claims) -> dict[str, Claims]:
    """What a site's key signs under ENDORSEMENT_DOMAIN: these claims are those of my own client slice."""
    return {"claims": claims}


def endorse(claims: Claims, site_key: SigningKey) -> str:
    """The site agent's endorsement (hex) of its client slice. Runs at the site's host."""
    return site_key.sign(ENDORSEMENT_DOMAIN, endorsement_payload(claims))


def require_endorsement(site: str, public_key: str, claims: Claims, endorsement: str) -> None:
    """Raises: `admission.bad_endorsement`."""
    try:
        verify(public_key, ENDORSEMENT_DOMAIN, endorsement_payload(claims), endorsement)
    except Refusal as refusal:
        raise Refusal("admission.bad_endorsement", site=site) from refusal
