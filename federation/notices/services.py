"""Tell people by mail when a run ends or needs someone: once an event, with a link, unless they want none.

The events are the outbox. `send_due` may run anywhere, twice, and at once.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from smtplib import SMTPException

from django.core.mail import send_mail
from django.db import transaction
from django.db.models import F, Max, QuerySet
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.translation import override

from contracts.releases import SEALED
from error_catalogue import CATALOGUE
from federation.audit.services import record
from federation.notices.models import Handled, Muted, Notice
from federation.notices.texts import text_of
from federation.people.models import Role, User
from federation.studies.models import Event
from federation.threads.models import Kind, Speaker
from federation.threads.plain import line, plain

log = logging.getLogger(__name__)

ENDS = ("run.finished", "run.failed", "run.cancelled")
RELEASES = ("release.asked", "release.released", "release.failed", "serving.waiting")
THREADS = tuple(f"thread.{kind}" for kind in Kind.values)
KINDS = ("study.approving", "study.ready", "quorum.awaited", "job.failed", *ENDS, *RELEASES, *THREADS)
FRESH = timedelta(days=1)
"""Older events are no news: an installation that mails for the first time does not tell its history."""
_OVERLAP = 5000
"""Events that committed late have lower ids than some that were handled: so far back they are looked for."""
MAX_ATTEMPTS = 5


def send_due() -> int:
    """Make the notices of new events, and send what is not sent; how many went out."""
    for event in _new():
        with transaction.atomic():
            _handled, first = Handled.objects.get_or_create(event=event)
            if first:
                for user in _whom(event):
                    Notice.objects.get_or_create(event=event, user=user)
    due = Notice.objects.filter(sent_at=None, attempts__lt=MAX_ATTEMPTS)
    return sum(
        _send(notice) for notice in due.select_related("event__study", "event__run__study", "user__site")
    )


def _new() -> QuerySet[Event]:
    last = Handled.objects.aggregate(last=Max("pk"))["last"] or 0
    return Event.objects.filter(
        pk__gt=last - _OVERLAP, kind__in=KINDS, at__gte=timezone.now() - FRESH, handled=None
    ).select_related("study__lead", "run__study__lead", "site")


def _whom(event: Event) -> list[User]:
    """Those who can do something about it, or have waited for it, and want mails."""
    study = event.study or (event.run.study if event.run else None)
    if study is None:
        return []
    lead, sites = True, set[str]()
    match event.kind:
        case "study.approving":
            lead, sites = False, set(study.approvals.values_list("site_id", flat=True))
        case "job.failed":
            if event.facts.get("again"):
                return []  # it is tried once more; nobody is needed
            entry = CATALOGUE.get(str(event.facts.get("code", "")))
            if entry is not None and entry.turn == "site":
                lead, sites = False, {event.site_id or ""}
        case "quorum.awaited":
            if event.round is not None:
                sites = event.round.waits_for()
        case kind if kind in THREADS:
            from_lead = event.facts.get("speaker") == Speaker.LEAD
            lead, sites = not from_lead, {event.site_id or ""} if from_lead else set()
        case "release.asked" | "serving.waiting":
            lead, sites = False, _members(event)
        case "release.released" if event.facts.get("rule") == SEALED:
            sites = _members(event)
        case kind if kind in ENDS:
            sites = _members(event)
    people = User.objects.filter(is_active=True, muted=None)
    admins = people.filter(role=Role.SITE_ADMIN, site_id__in=sites)
    return [*(people.filter(pk=study.lead_id) if lead else []), *admins]


def _members(event: Event) -> set[str]:
    """The hospitals that have signed for the event's run."""
    run = event.run
    if run is None:
        return set()
    signed = run.study.approvals.filter(manifest_hash=run.manifest_hash)
    return set(signed.values_list("site_id", flat=True))


def _send(notice: Notice) -> bool:
    """Send it, unless somebody else is at it. A mail server that fails is tried again, MAX_ATTEMPTS times."""
    mine = Notice.objects.filter(pk=notice.pk, sent_at=None)
    if not mine.update(sent_at=timezone.now(), attempts=F("attempts") + 1):
        return False
    with override(notice.user.reads):
        text = text_of(notice.event, notice.user)
        body = render_to_string("notices/mail.txt", {"text": text, "event": notice.event})
    try:
        send_mail(line(f"FedSlice: {text.subject}"), plain(body), None, [notice.user.email])
    except (OSError, SMTPException) as error:
        log.warning("notice %d could not be sent: %s", notice.pk, type(error).__name__)
        Notice.objects.filter(pk=notice.pk).update(sent_at=None)
        return False
    return True


def wants_mails(user: User) -> bool:
    """Whether this person is told by mail."""
    return not Muted.objects.filter(user=user).exists()


def choose_mails(user: User, wanted: bool) -> None:
    """A person's own choice."""
    with transaction.atomic():
        if wanted:
            Muted.objects.filter(user=user).delete()
        else:
            Muted.objects.get_or_create(user=user)
        record(user, "person.mails_on" if wanted else "person.mails_off", f"user:{user.pk}")
