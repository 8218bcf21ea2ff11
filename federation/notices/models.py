"""News: which events were looked at, who is told of which, in the browser and by mail."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from federation.studies.models import Event


class Handled(models.Model):
    """Of this event, everybody who is to be told has a notice."""

    event = models.OneToOneField(Event, primary_key=True, on_delete=models.CASCADE, related_name="handled")


class Topic(models.TextChoices):
    """Kinds of news that a person may want by mail or not."""

    ASKED = "asked", _("Something is asked of you: an approval, a launch, a release, serving")
    TALK = "talk", _("Somebody has written to you about a study")
    TROUBLE = "trouble", _("A run waits for a hospital, or a hospital could not do its work")
    ENDED = "ended", _("A run has ended, or its parameters are released")


class Notice(models.Model):
    """News for one person about one event. It stands in the browser, read or unread, and goes out by mail if
    `by_mail`: the person wanted mails of its topic when it was made. `sent_at` is set before it is sent, so
    that a worker that dies in between costs a mail, and never sends two."""

    event = models.ForeignKey(Event, on_delete=models.CASCADE, related_name="notices")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="notices")
    by_mail = models.BooleanField(default=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    sent_at = models.DateTimeField(null=True, blank=True, db_index=True)
    read_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering: ClassVar = ["id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["event", "user"], name="one_notice_per_event_and_person")
        ]
        indexes: ClassVar = [
            models.Index(fields=["user"], condition=models.Q(read_at=None), name="unread_notices"),
            models.Index(fields=["user", "-id"], name="notices_of_a_person"),
        ]


class Unwanted(models.Model):
    """A topic of which this person wants no mails."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="unwanted")
    topic = models.CharField(max_length=16, choices=Topic)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["user", "topic"], name="one_wish_per_person_and_topic")
        ]
