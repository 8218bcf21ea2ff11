"""Who may invite whom, and see which accounts."""

from __future__ import annotations

from django.db.models import Q, QuerySet

from contracts.refusal import Refusal
from federation.people import posts
from federation.people.models import Invitation, Role, User
from federation.sites.models import Site


def can_invite(user: User, role: str, site: Site | None = None) -> bool:
    """Operators invite anybody; leads invite hospitals; a site admin invites colleagues of their own site."""
    if user.role == Role.OPERATOR:
        return True
    if role != Role.SITE_ADMIN:
        return False
    if user.role == Role.LEAD:
        return site is None
    return posts.may(user, "invite") and site is not None and site.pk == user.site_id


def visible_to(user: User) -> QuerySet[User]:
    """Operators and auditors see all accounts, a site admin those of their site, everybody their own."""
    if user.role in (Role.OPERATOR, Role.AUDITOR):
        return User.objects.all()
    own = Q(pk=user.pk)
    return User.objects.filter(own | Q(site=user.site) if user.role == Role.SITE_ADMIN else own)


def invitations_visible_to(user: User) -> QuerySet[Invitation]:
    """Operators see all invitations; others those that they sent, and a site admin those of their site."""
    if user.role == Role.OPERATOR:
        return Invitation.objects.all()
    sent = Q(invited_by=user)
    return Invitation.objects.filter(sent | Q(site_id=user.site_id) if user.role == Role.SITE_ADMIN else sent)


def can_list(user: User) -> bool:
    """Open the list of people: operators and auditors."""
    return user.role in (Role.OPERATOR, Role.AUDITOR)


def can_manage(user: User) -> bool:
    """Change roles, close accounts, reset second factors, renew invitations: operators."""
    return user.role == Role.OPERATOR


def can_keep(by: User, user: User) -> bool:
    """Close an account, or open it again: operators; and a hospital's admin, of the hospital's people."""
    return can_manage(by) or can_give_post(by, user)


def can_give_post(by: User, user: User) -> bool:
    """Say what somebody does at a hospital: its admin alone."""
    return user.site_id is not None and user.site_id == by.site_id and posts.may(by, "invite")


def can_manage_invitation(user: User, invitation: Invitation) -> bool:
    """Send it again or take it back: operators, and whoever sent it."""
    return can_manage(user) or invitation.invited_by_id == user.pk


def require(allowed: bool) -> None:
    """Refuse with `auth.forbidden` unless allowed: the last line of defence inside services."""
    if not allowed:
        raise Refusal("auth.forbidden")
