"""Template tags of attestation: a site's quarantine, and hashes that a person can compare."""

from __future__ import annotations

from typing import Any

from django import template

from federation.attestation.reviews import quarantines
from federation.sites.models import Site

register = template.Library()


@register.inclusion_tag("frontend/sites/quarantine.html")
def quarantine(site: Site) -> dict[str, Any]:
    """Why this site's evidence is refused, if a measurement that it showed is not approved."""
    return {"reviews": quarantines(site)}
