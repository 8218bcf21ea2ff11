"""Tell people when a run ends or needs someone: once an event, with a link, in the browser, and by mail for
those who want it.

The events are the outbox. `send_due` may run anywhere, twice, and at once.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import timedelta
from smtplib import SMTPException
from zoneinfo import ZoneInfo

from django.core.mail import send_mail
from django.db import transaction
from django.db.models import F, Max, QuerySet
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.translation import override

from contracts.releases import SEALED
from error_catalogue import CATALOGUE
from federation.audit.services import record
from federation.notices.models import Handled, Notice, Topic, Unwanted
from federation.notices.texts import text_of
from federation.people import posts
from federation.people.models import Post, Role, User
from federation.plain import line, plain
from federation.studies.models import Event, Study, SweepPoint
from federation.threads.models import Kind, Speaker

log = logging.getLogger(__name__)

ENDS = ("run.finished", "run.failed", "run.cancelled")
THREADS = tuple(f"thread.{kind}" for kind in Kind.values)
TOPICS = {
    **dict.fromkeys(("study.approving", "study.ready", "release.asked", "serving.waiting"), Topic.ASKED),
    **dict.fromkeys(THREADS, Topic.TALK),
    **dict.fromkeys(("quorum.awaited", "job.failed"), Topic.TROUBLE),
    **dict.fromkeys((*ENDS, "release.released", "release.failed"), Topic.ENDED),
}
KINDS = tuple(TOPICS)
_TOLD = {
    Topic.ASKED: posts.DOES["decide"],
    Topic.TALK: posts.DOES["decide"],
    Topic.TROUBLE: posts.DOES["run_agent"],
    Topic.ENDED: frozenset({posts.ADMIN, *Post.values}),
}
"""Whom of a hospital's people news of a topic are for."""
FRESH = timedelta(days=1)
"""Older events are no news: an installation that mails for the first time does not tell its history."""
_OVERLAP = 5000
"""Events that committed late have lower ids than some that were handled: so far back they are looked for."""
MAX_ATTEMPTS = 5
ONE_SWEEP = timedelta(hours=1)
"""The studies of a sweep that ask for approval within it are one piece of news."""


def send_due() -> int:
    """Make the notices of new events, and send what is not sent; how many went out."""
    for event in _new():
        with transaction.atomic():
            _handled, first = Handled.objects.get_or_create(event=event)
            if first:
                people, topic = _whom(event), TOPICS[event.kind]
                no_mail = set(
                    Unwanted.objects.filter(user__in=people, topic=topic).values_list("user", flat=True)
                )
                for user in people:
                    choice = {"by_mail": user.pk not in no_mail}
                    Notice.objects.get_or_create(event=event, user=user, defaults=choice)
    due = Notice.objects.filter(by_mail=True, sent_at=None, attempts__lt=MAX_ATTEMPTS)
    return sum(
        _send(notice)
        for notice in due.select_related(
            "event__study__sweep_point__sweep", "event__run__study", "user__site"
        )
    )


def _new() -> QuerySet[Event]:
    last = Handled.objects.aggregate(last=Max("pk"))["last"] or 0
    return Event.objects.filter(
        pk__gt=last - _OVERLAP, kind__in=KINDS, at__gte=timezone.now() - FRESH, handled=None
    ).select_related("study__lead", "run__study__lead", "site")


def _whom(event: Event) -> list[User]:
    """Those who can do something about it, or have waited for it."""
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
            if entry is not None and entry.responsible == "site":
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
    people = User.objects.filter(is_active=True)
    there = people.filter(role=Role.SITE_ADMIN, site_id__in=sites, post__in=_TOLD[TOPICS[event.kind]])
    there = there.exclude(pk__in=_noticed_of_sweep(event, study))
    return [*(people.filter(pk=study.lead_id) if lead else []), *there]


def _noticed_of_sweep(event: Event, study: Study) -> set[int]:
    """Who knows already that the sweep of this study asks for approval. Where it asks once more, after a wish
    for changes, that is news: what was told before this study last asked does not count."""
    point = SweepPoint.objects.filter(study=study).first() if event.kind == "study.approving" else None
    if point is None:
        return set()
    same = Notice.objects.filter(event__kind=event.kind, event__study__sweep_point__sweep=point.sweep_id)
    before = Event.objects.filter(study=study, kind=event.kind, pk__lt=event.pk).order_by("-pk").first()
    if before is not None:
        same = same.filter(event__gt=before.pk)
    return set(same.filter(event__at__gte=event.at - ONE_SWEEP).values_list("user", flat=True))


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
        zone = notice.user.time_zone or "UTC"
        at = notice.event.at.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M:%S")
        body = render_to_string("notices/mail.txt", {"text": text, "at": at, "zone": zone})
    try:
        send_mail(line(f"FedSlice: {text.subject}"), plain(body), None, [notice.user.email])
    except (OSError, SMTPException) as error:
        log.warning("notice %d could not be sent: %s", notice.pk, type(error).__name__)
        Notice.objects.filter(pk=notice.pk).update(sent_at=None)
        return False
    return True


def unwanted_by(user: User) -> set[str]:
    """The topics of which this person wants no mails."""
    return set(Unwanted.objects.filter(user=user).values_list("topic", flat=True))


def choose_mails(user: User, wanted: Collection[str]) -> None:
    """A person's own choice: mails of these topics, of others none."""
    unwanted = [topic for topic in Topic.values if topic not in wanted]
    with transaction.atomic():
        Unwanted.objects.filter(user=user).delete()
        Unwanted.objects.bulk_create(Unwanted(user=user, topic=topic) for topic in unwanted)
        chosen = ", ".join(sorted(set(Topic.values) - set(unwanted)))
        record(user, "person.mails_chosen", f"user:{user.pk}", topics=chosen)
