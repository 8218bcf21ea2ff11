"""A manifest in plain sentences, as one hospital reads them, or whoever is at none."""

from __future__ import annotations

from contracts.manifest import Manifest
from federation.datasets.models import Dataset
from federation.sites.models import Site
from manifest_summary.facts import Section
from manifest_summary.short import in_short


def short_for(manifest: Manifest, site: Site | None) -> Section:
    """Its own rows are called by the name that the hospital has given its dataset. In the language that
    `translations.spoken` speaks."""
    own = next((one for one in manifest.sites if site is not None and one.id == site.pk), None)
    if own is None:
        return in_short(manifest)
    name = Dataset.objects.filter(pk=own.dataset.id, site=site).values_list("name", flat=True).first()
    return in_short(manifest, own.id, name or "")
