"""Whom a hospital's decision waits for, by name."""

from __future__ import annotations

from collections.abc import Collection

from federation.people import posts
from federation.people.models import Post, Role, User
from federation.sites.models import Site
from federation.studies.models import Approval


def people_of(sites: Collection[str]) -> dict[str, str]:
    """Site id -> whose decision is awaited there: its data protection officers', where it has some, else its
    admins'. One query for all."""
    officers: dict[str, list[str]] = {}
    admins: dict[str, list[str]] = {}
    there = User.objects.filter(
        site_id__in=sites, role=Role.SITE_ADMIN, is_active=True, post__in=posts.DOES["decide"]
    )
    for user in there.order_by("email"):
        known = officers if user.post == Post.OFFICER else admins
        known.setdefault(str(user.site_id), []).append(str(user))
    return {site: ", ".join(names) for site, names in {**admins, **officers}.items()}


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
