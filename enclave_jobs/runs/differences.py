"""Earlier runs from whose result a new run's could be subtracted: their members differ by one hospital."""

from __future__ import annotations

from typing import NamedTuple

from contracts.manifest import Manifest, parse
from contracts.refusal import Refusal
from enclave_jobs.runs.models import Run
from enclave_jobs.runs.permissions import runs_visible_to
from federation.people.models import User
from privacy_accounting.subtraction import is_covered, kind_of, odd_one

LOOKED_AT = 200


class Difference(NamedTuple):
    """`run` differs from the new one by the hospital called `site`."""

    run: Run
    site: str


def differences(user: User, manifest: Manifest) -> list[Difference]:
    """Among the newest runs that this person may see. A hospital cannot see runs that it was no member of;
    who plans both can."""
    found, kind = [], kind_of(manifest)
    for run in runs_visible_to(user).select_related("study").order_by("-created_at")[:LOOKED_AT]:
        try:
            earlier = parse(run.manifest.encode())
        except Refusal:  # of an older version
            continue
        if kind_of(earlier) != kind or is_covered(_unit(manifest), _unit(earlier)):
            continue
        names = {site.id: site.name for site in (*earlier.sites, *manifest.sites)}
        odd = odd_one([site.id for site in manifest.sites], [site.id for site in earlier.sites])
        if odd is not None:
            found.append(Difference(run, names[odd]))
    return found


def _unit(manifest: Manifest) -> str:
    privacy = manifest.aggregation.privacy
    return "none" if privacy is None else privacy.unit
