"""Who may see and govern which site."""

from __future__ import annotations

from django.db.models import QuerySet

from federation.people import posts
from federation.people.models import Role, User
from federation.sites.models import Site, SiteState, StoppedBy


def visible_to(user: User) -> QuerySet[Site]:
    """Operators, leads and auditors see all sites; a site admin sees their own."""
    if user.role == Role.SITE_ADMIN:
        return Site.objects.filter(pk=user.site_id)
    return Site.objects.all()


def can_see(user: User, site: Site) -> bool:
    """May this person open the site's page?"""
    return user.role != Role.SITE_ADMIN or user.site_id == site.pk


def can_enrol(user: User, site: Site) -> bool:
    """May they have an enrolment command? Only the hospital's own admin and IT: whoever runs it is the
    hospital."""
    return posts.may(user, "run_agent") and user.site_id == site.pk


def belongs(user: User, site: Site) -> bool:
    """Are they one of the hospital's people, whatever their post?"""
    return user.role == Role.SITE_ADMIN and user.site_id == site.pk


def can_list_people(user: User, site: Site) -> bool:
    """See who belongs to the hospital: its own people, operators, auditors."""
    return user.role in (Role.OPERATOR, Role.AUDITOR) or belongs(user, site)


def can_govern(user: User, site: Site, target: str) -> bool:
    """May they move the site to the state `target`? Operators any site, the hospital's admin their own; but a
    suspended site comes back by the side that stopped it, else one would undo the other's caution."""
    own = can_enrol(user, site) and (target != SiteState.REVOKED or posts.may(user, "revoke"))
    if target == SiteState.ACTIVE:
        return own if site.suspended_by == StoppedBy.SITE else user.role == Role.OPERATOR
    return user.role == Role.OPERATOR or own


def can_plan_maintenance(user: User, site: Site) -> bool:
    """Maintenance windows and new connection checks: the hospital's own admin, and operators."""
    return user.role == Role.OPERATOR or can_enrol(user, site)


def can_see_checks(user: User, site: Site) -> bool:
    """What the agent found around itself names machines and proxies of the hospital: for its own admin, and
    for those who help and audit, not for leads."""
    return user.role in (Role.OPERATOR, Role.AUDITOR) or belongs(user, site)
