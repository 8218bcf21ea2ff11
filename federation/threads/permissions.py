"""Who reads and writes in a study's threads."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet

from federation.people import posts
from federation.people.models import Role, User
from federation.sites.models import Site
from federation.studies import permissions
from federation.studies.models import Approval, Study, Sweep
from federation.threads.models import Message, Speaker


def studies_visible_to(user: User) -> QuerySet[Study]:
    """Whose threads this person may open: of the studies that they see; and an admin of a hospital that was
    asked once, also while the study is a draft again, of which the thread is all that they see."""
    if user.role != Role.SITE_ADMIN:
        return permissions.visible_to(user)
    asked = Approval.objects.filter(site=user.site).values("study_id")
    return Study.objects.filter(pk__in=asked)


def visible_to(user: User, study: Study) -> QuerySet[Message]:
    """All messages, for those who see the study; a hospital sees its own thread alone."""
    if not studies_visible_to(user).filter(pk=study.pk).exists():
        return Message.objects.none()
    found = Message.objects.filter(study=study).select_related("study", "site", "by")
    return found.filter(site=user.site) if user.role == Role.SITE_ADMIN else found


def sweeps_visible_to(user: User) -> QuerySet[Sweep]:
    """Whose threads this person may open, as of studies."""
    if user.role != Role.SITE_ADMIN:
        return permissions.sweeps_visible_to(user)
    asked = Approval.objects.filter(site=user.site).values("study__sweep_point__sweep")
    return Sweep.objects.filter(pk__in=asked)


def of_sweep_visible_to(user: User, sweep: Sweep) -> QuerySet[Message]:
    """What was said about a sweep and about single studies of it, each decision once."""
    if not sweeps_visible_to(user).filter(pk=sweep.pk).exists():
        return Message.objects.none()
    found = Message.objects.filter(study__sweep_point__sweep=sweep, first=None)
    found = found.select_related("study", "site", "by", "sweep")
    return found.filter(site=user.site) if user.role == Role.SITE_ADMIN else found


def speaks_for(by: Any, study: Study, site: Site) -> bool:
    """One of this hospital's people, or its agent, once the study has asked it."""
    if isinstance(by, User) and by.role != Role.SITE_ADMIN:
        return False
    own = getattr(by, "site", None)
    if own is None or own.pk != site.pk:
        return False
    return Approval.objects.filter(study=study, site=site).exists()


def decides(by: Any) -> bool:
    """Ask for changes, decline, take a decline back: the hospital's admin, its data protection officer, and
    its agent, at which somebody stands who has its keys."""
    return not isinstance(by, User) or posts.may(by, "decide")


def can_erase(user: User, message: Message) -> bool:
    """Of what the lead wrote, the lead; of what a hospital or its agent wrote, whoever decides there, and
    whoever wrote it."""
    if message.erased_at is not None:
        return False
    if message.speaker == Speaker.LEAD:
        return permissions.can_edit(user, message.study)
    own = user.role == Role.SITE_ADMIN and user.site_id == message.site_id
    return own and (decides(user) or message.by_id == user.pk)
