"""Who may see and do what with studies and what hangs on them."""

from __future__ import annotations

from django.db.models import QuerySet

from federation.people import posts
from federation.people.models import Role, User
from federation.studies.models import Study, Sweep


def visible_to(user: User) -> QuerySet[Study]:
    """Operators and auditors see all studies, a lead their own, a site admin those that use a dataset of
    their site once they are frozen: a draft is the lead's own affair."""
    if user.role in (Role.OPERATOR, Role.AUDITOR):
        return Study.objects.all()
    if user.role == Role.LEAD:
        return Study.objects.filter(lead=user)
    member = Study.objects.filter(datasets__site=user.site).values("pk")
    return Study.objects.filter(pk__in=member).exclude(manifest_hash="")


def with_runs_visible_to(user: User) -> QuerySet[Study]:
    """The studies whose runs this person may see: to a site admin reopened ones, too."""
    if user.role == Role.SITE_ADMIN:
        return Study.objects.filter(datasets__site=user.site)
    return visible_to(user)


def can_see(user: User, study: Study) -> bool:
    """May this person open the study's page, and those of its runs?"""
    return visible_to(user).filter(pk=study.pk).exists()


def sweeps_visible_to(user: User) -> QuerySet[Sweep]:
    """Operators and auditors see all sweeps, a lead their own, a site admin those with a point that they
    see."""
    if user.role in (Role.OPERATOR, Role.AUDITOR):
        return Sweep.objects.all()
    if user.role == Role.SITE_ADMIN:
        return Sweep.objects.filter(pk__in=visible_to(user).values("sweep_point__sweep"))
    return Sweep.objects.filter(lead=user)


def can_register_models(user: User) -> bool:
    """Which models the consortium may use is set up by operators."""
    return user.role == Role.OPERATOR


def can_see_models(user: User) -> bool:
    """Registered models with their proofs: all but site admins, who see those of their studies there."""
    return user.role != Role.SITE_ADMIN


def can_create(user: User) -> bool:
    """Studies are made by leads."""
    return user.role == Role.LEAD


def can_edit(user: User, study: Study) -> bool:
    """Edit, freeze, reopen, launch, pause, cancel: the study's own lead."""
    return user.role == Role.LEAD and study.lead_id == user.pk


def can_cancel(user: User, study: Study) -> bool:
    """Its lead, and an operator who must stop something."""
    return can_edit(user, study) or user.role == Role.OPERATOR


def can_approve(user: User, study: Study) -> bool:
    """The admin, or the data protection officer, of a site whose dataset the study uses."""
    return posts.may(user, "decide") and study.datasets.filter(site=user.site).exists()
