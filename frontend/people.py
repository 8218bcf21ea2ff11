"""Whom a hospital's decision waits for, by name."""

from __future__ import annotations

from collections.abc import Collection

from federation.people.models import Role, User
from federation.sites.models import Site
from federation.studies.models import Approval


def people_of(sites: Collection[str]) -> dict[str, str]:
    """Site id -> who of that hospital reads here and sees to its signature. One query for all."""
    people: dict[str, list[str]] = {}
    admins = User.objects.filter(site_id__in=sites, role=Role.SITE_ADMIN, is_active=True)
    for user in admins.order_by("email"):
        people.setdefault(str(user.site_id), []).append(str(user))
    return {site: ", ".join(names) for site, names in people.items()}


def named_at(rows: Collection[Approval]) -> list[Approval]:
    """The approvals; each that is not signed with `people`, for whom it waits."""
    people = people_of([row.site_id for row in rows if row.signature is None])
    for row in rows:
        row.people = people.get(row.site_id, "")  # type: ignore[attr-defined]
    return list(rows)


def with_people(sites: Collection[Site]) -> str:
    """`St. Anna (alice@anna.example), St. Barbara`."""
    people = people_of([site.pk for site in sites])
    return ", ".join(f"{site} ({people[site.pk]})" if site.pk in people else str(site) for site in sites)
