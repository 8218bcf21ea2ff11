"""Mails about events: which events were looked at, who is told of which, and who wants none."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models

from federation.studies.models import Event


class Handled(models.Model):
    """Of this event, everybody who is to be told has a notice."""

    event = models.OneToOneField(Event, primary_key=True, on_delete=models.CASCADE, related_name="handled")


class Notice(models.Model):
    """One mail to one person about one event. `sent_at` is set before it is sent, so that a worker that dies
    in between costs a mail, and never sends two."""

    event = models.ForeignKey(Event, on_delete=models.CASCADE, related_name="notices")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="notices")
    attempts = models.PositiveSmallIntegerField(default=0)
    sent_at = models.DateTimeField(null=True, blank=True, db_index=True)

    class Meta:
        ordering: ClassVar = ["id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["event", "user"], name="one_notice_per_event_and_person")
        ]


class Muted(models.Model):
    """A person who wants no mails about events."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, primary_key=True, on_delete=models.CASCADE, related_name="muted"
    )
