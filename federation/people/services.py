"""People come by invitation. Every write about people is here."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.mail import send_mail
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import override

from contracts.refusal import Refusal
from federation.audit.models import AuditEntry
from federation.audit.services import record
from federation.people import auditors, permissions, posts
from federation.people.models import Invitation, Post, Role, User
from federation.people.permissions import can_invite, require
from federation.people.release_key import fingerprint
from federation.people.zones import zones
from federation.plain import line
from federation.sites.models import Site
from federation.sites.services import forget_site, invite_site, name_site
from federation.tokens import MAX_TOKEN, new_token, token_hash
from translations.spoken import known

INVITATION_LIFE = timedelta(days=7)


def _checked_email(email: str) -> str:
    email = email.strip().lower()
    try:
        validate_email(email)
    except ValidationError as error:
        raise Refusal("invitation.bad_email", email=email[:254]) from error
    return email


def _checked_password(password: str, user: User) -> None:
    try:
        validate_password(password, user)
    except ValidationError as error:
        raise Refusal("people.bad_password", fault=" ".join(error.messages)) from error


def create_operator(email: str, password: str) -> User:
    """The first account of an installation, made at its command line."""
    email = _checked_email(email)
    _checked_password(password, User(email=email))
    try:
        with transaction.atomic():
            user = User.objects.create_user(email, password, role=Role.OPERATOR)
            record(None, "person.operator_created", f"user:{user.pk}")
    except IntegrityError as error:
        raise Refusal("people.account_exists") from error
    return user


def invite(
    by: User,
    email: str,
    role: str,
    site: Site | None = None,
    language: str | None = None,
    post: str = "",
) -> Invitation:
    """Send a link that makes an account, in this language, else in that of whoever invites. A site admin
    without a site brings a new hospital; `post` is what somebody does at one that is there.

    Raises: `auth.forbidden`, `invitation.bad_email`, `invitation.account_exists` or
    `invitation.mail_failed`; then nothing is kept.
    """
    if role not in Role.values or (role != Role.SITE_ADMIN and site is not None):
        raise Refusal("auth.forbidden")
    if post and (post not in Post.values or site is None):
        raise Refusal("auth.forbidden")
    require(can_invite(by, role, site))
    email = _checked_email(email)
    if User.objects.filter(email=email).exists():
        raise Refusal("invitation.account_exists", email=email)
    token, hashed = new_token()
    with transaction.atomic():
        if role == Role.SITE_ADMIN and site is None:
            site = invite_site(by)
        invitation = Invitation.objects.create(
            email=email,
            role=role,
            site=site,
            post=post,
            token_hash=hashed,
            expires=timezone.now() + INVITATION_LIFE,
            invited_by=by,
            language=known(language or by.reads),
        )
        record(by, "person.invited", f"invitation:{invitation.pk}", email=email, role=post or role)
        _send(invitation, token, by)
    return invitation


def _send(invitation: Invitation, token: str, by: User) -> None:
    link = f"{settings.PUBLIC_URL}/invitations/{token}/"
    context = {
        "invitation": invitation,
        "link": link,
        "by": by,
        "release_key": fingerprint() if _installs(invitation) else "",
    }
    with override(invitation.language):
        subject, text = _("You are invited to FedSlice"), render_to_string("people/invitation.txt", context)
    try:
        send_mail(subject, text, None, [invitation.email])
    except OSError as error:
        raise Refusal("invitation.mail_failed", email=invitation.email) from error


def _installs(invitation: Invitation) -> bool:
    """Whether this person may be the one who installs the hospital's agent."""
    return invitation.role == Role.SITE_ADMIN and invitation.post in posts.DOES["run_agent"]


def find_invitation(token: str) -> Invitation:
    """The open invitation of this token.

    Raises: `invitation.unknown`, `.used` or `.expired`.
    """
    invitation = Invitation.objects.filter(token_hash=token_hash(token[:MAX_TOKEN])).first()
    if invitation is None:
        raise Refusal("invitation.unknown")
    if invitation.used_at is not None:
        raise Refusal("invitation.used")
    if invitation.expires <= timezone.now():
        raise Refusal("invitation.expired")
    return invitation


def accept_invitation(
    token: str, *, password: str, first_name: str = "", last_name: str = "", site_name: str = ""
) -> User:
    """Make the account that the link stands for and use the link up; name the hospital if it has no name yet.

    Raises: an `invitation.*` code, `people.bad_password`, `people.account_exists`, `site.name_missing` or
    `site.name_taken`; then the link stays usable.
    """
    invitation = find_invitation(token)
    user = User(email=invitation.email, first_name=line(first_name)[:150], last_name=line(last_name)[:150])
    _checked_password(password, user)
    with transaction.atomic():
        # Whoever changes the row first has the link; the other one finds it used.
        mine = Invitation.objects.filter(pk=invitation.pk, used_at=None).update(used_at=timezone.now())
        if not mine:
            raise Refusal("invitation.used")
        try:
            with transaction.atomic():
                user = User.objects.create_user(
                    invitation.email,
                    password,
                    role=invitation.role,
                    site=invitation.site,
                    post=invitation.post,
                    first_name=user.first_name,
                    last_name=user.last_name,
                )
        except IntegrityError as error:
            raise Refusal("people.account_exists") from error
        record(user, "person.joined", f"user:{user.pk}", role=user.role)
        if user.role == Role.AUDITOR:
            auditors.begin(user)
        if user.site is not None and not user.site.name:
            name_site(user, user.site, site_name)
    return user


def renew_invitation(by: User, invitation: Invitation) -> None:
    """Send a new link for seven more days; the old one is worthless.

    Raises: `auth.forbidden`, `invitation.used` or `invitation.mail_failed`.
    """
    require(permissions.can_manage_invitation(by, invitation))
    token, hashed = new_token()
    with transaction.atomic():
        changed = Invitation.objects.filter(pk=invitation.pk, used_at=None).update(
            token_hash=hashed, expires=timezone.now() + INVITATION_LIFE
        )
        if not changed:
            raise Refusal("invitation.used")
        record(by, "person.invited_again", f"invitation:{invitation.pk}", email=invitation.email)
        _send(invitation, token, by)


def withdraw_invitation(by: User, invitation: Invitation) -> None:
    """Make a link worthless that was not used, and with it the place for a hospital that nobody came for.
    Again changes nothing."""
    require(permissions.can_manage_invitation(by, invitation))
    with transaction.atomic():
        gone, _counts = Invitation.objects.filter(pk=invitation.pk, used_at=None).delete()
        if not gone:
            return
        record(by, "person.uninvited", f"invitation:{invitation.pk}", email=invitation.email)
        site = invitation.site
        if site is not None and not site.invitations.exists() and not User.objects.filter(site=site).exists():
            forget_site(by, site)


def deactivate(by: User, user: User) -> None:
    """Close an account: it is signed out everywhere with its next request. Its actions stay on record."""
    _set(by, user, "person.deactivated", permissions.can_keep, is_active=False)


def close_at_console(email: str) -> User:
    """`deactivate`, by whoever has the installation's command line.

    Raises: `people.unknown`.
    """
    user = User.objects.filter(email=email.strip().lower()).first()
    if user is None:
        raise Refusal("people.unknown")
    with transaction.atomic():
        User.objects.filter(pk=user.pk).update(is_active=False)
        record(None, "person.deactivated", f"user:{user.pk}")
    return user


def reactivate(by: User, user: User) -> None:
    """Open a closed account again; one that an operator has closed, operators alone.

    Raises: `auth.forbidden` or `people.own_account`.
    """
    _set(by, user, "person.reactivated", _can_open, is_active=True)


def _can_open(by: User, user: User) -> bool:
    """The audit trail, which is never forgotten, says who has closed it."""
    if permissions.can_manage(by):
        return True
    closed = AuditEntry.objects.filter(action="person.deactivated", target=f"user:{user.pk}").first()
    own = closed is not None and User.objects.filter(email=closed.actor, site=user.site_id).exists()
    return own and permissions.can_keep(by, user)


def set_role(by: User, user: User, role: str) -> None:
    """Give another role to somebody who belongs to no hospital; an auditor's word counts once another one
    has confirmed it (`auditors`).

    Raises: `auth.forbidden`, `people.own_account` or `people.site_account`.
    """
    if user.site_id is not None or role == Role.SITE_ADMIN:
        raise Refusal("people.site_account")
    require(role in Role.values)
    with transaction.atomic():
        _set(by, user, "person.role_changed", lambda by, _user: permissions.can_manage(by), role=role)
        if role == Role.AUDITOR and not user.auditor_confirmed_at:
            user.refresh_from_db()
            auditors.begin(user)


def set_post(by: User, user: User, post: str) -> None:
    """Give a colleague of the same hospital another post; empty: another admin. An admin cannot give up
    being one alone, so that each hospital keeps one.

    Raises: `auth.forbidden` or `people.own_account`.
    """
    require(post in (posts.ADMIN, *Post.values))
    _set(by, user, "person.post_changed", permissions.can_give_post, post=post)


def change_password(user: User, current: str, password: str) -> None:
    """Raises: `people.wrong_password` or `people.bad_password`."""
    if not user.check_password(current):
        raise Refusal("people.wrong_password")
    _checked_password(password, user)
    with transaction.atomic():
        user.set_password(password)
        user.save(update_fields=["password"])
        record(user, "person.password_changed", f"user:{user.pk}")


def change_profile(user: User, first_name: str, last_name: str, time_zone: str) -> None:
    """The person's own name, and the time zone (IANA) in which pages and mails tell moments; empty: the
    browser's in pages, UTC in mails.

    Raises: `people.unknown_zone`.
    """
    if time_zone and time_zone not in zones():
        raise Refusal("people.unknown_zone", zone=line(time_zone)[:64])
    names = {"first_name": line(first_name)[:150], "last_name": line(last_name)[:150]}
    with transaction.atomic():
        User.objects.filter(pk=user.pk).update(**names, time_zone=time_zone)
        record(user, "person.profile_changed", f"user:{user.pk}", time_zone=time_zone or "browser")


def put_steps_away(user: User, away: bool) -> None:
    """Show the first steps of the role no longer, or again. A matter of taste: no action is recorded."""
    User.objects.filter(pk=user.pk).update(steps_put_away=away)


def _set(by: User, user: User, action: str, may: Callable[[User, User], bool], **changes: Any) -> None:
    """Both are read again under a lock: of two admins who close each other's accounts at once, the second has
    none any more."""
    with transaction.atomic():
        both = User.objects.select_for_update().filter(pk__in={by.pk, user.pk}).order_by("pk").in_bulk()
        require(both[by.pk].is_active and may(both[by.pk], both[user.pk]))
        if by.pk == user.pk:
            raise Refusal("people.own_account")
        User.objects.filter(pk=user.pk).update(**changes)
        record(by, action, f"user:{user.pk}", **changes)
