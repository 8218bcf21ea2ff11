"""Who may see which dataset cards. Rows never leave the site, so nobody may see those."""

from __future__ import annotations

from django.db.models import Q, QuerySet

from federation.datasets.models import Dataset
from federation.people import posts
from federation.people.models import Role, User


def visible_to(user: User) -> QuerySet[Dataset]:
    """Operators and auditors see all cards, leads those on offer and those of their studies, a site admin
    their site's."""
    datasets = Dataset.objects.select_related("site")
    if user.role in (Role.OPERATOR, Role.AUDITOR):
        return datasets
    if user.role == Role.LEAD:
        own = Q(pk__in=Dataset.objects.filter(studies__lead=user).values("pk"))
        return datasets.filter(Q(withdrawn_at=None) | own)
    return datasets.filter(site=user.site)


def can_see(user: User, dataset: Dataset) -> bool:
    """May this person open the card's page?"""
    return visible_to(user).filter(pk=dataset.pk).exists()


def can_describe(user: User, dataset: Dataset) -> bool:
    """Say in words what the dataset is: the admin and the researchers of its own site."""
    return posts.may(user, "describe") and user.site_id == dataset.site_id
