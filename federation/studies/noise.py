"""What the noise of a manifest is worth: epsilon after its last round, before anything has run."""

from __future__ import annotations

from contracts.manifest import Manifest
from federation.datasets.queries import training_rows
from privacy_accounting.epsilon import epsilon, planned


def planned_epsilon(manifest: Manifest) -> float | None:
    """Epsilon at the manifest's delta, of the site where it is worst; None without noise, and where a site's
    card hides how many rows it trains on. Raises Refusal("privacy.no_account")."""
    privacy = manifest.aggregation.privacy
    if privacy is None:
        return None
    rows: list[int | None] = [1]  # do not matter to the unit `site`
    if privacy.unit == "record":
        rows = training_rows(site.dataset.id for site in manifest.sites)
    if None in rows:
        return None
    steps = [planned(privacy, manifest.training, count) for count in rows if count is not None]
    return max(epsilon(taken, privacy.delta) for taken in steps)
