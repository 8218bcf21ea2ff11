"""Messages between a study's lead and one of its hospitals."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from federation.sites.models import Site
from federation.studies.models import Study, Sweep


class Speaker(models.TextChoices):
    LEAD = "lead", _("the lead")
    SITE = "site", _("the hospital")


class Kind(models.TextChoices):
    MESSAGE = "message", _("says")
    CHANGES = "changes", _("asks for changes")
    DECLINE = "decline", _("declines")
    RECONSIDER = "reconsider", _("may take part after all")


class About(models.TextChoices):
    STUDY = "study", _("the study")
    RELEASE = "release", _("the release")
    SERVING = "serving", _("serving")


class Message(models.Model):
    """One message of the thread between the lead and `site`. `manifest_hash` is what stood to be decided when
    it was written, `run` the run whose release or serving it is about. `by` is None where the hospital's
    agent sent it. `digest` is SHA-256(salt ‖ text), in hex as in the log; whoever erases the text erases the
    salt with it, so that nobody can try texts against the hash.

    What is said about a sweep as a whole (`sweep`) is a message of one of its studies. A decision about it is
    one of each study that it decides: those after the first name it (`first`), and pages show it once."""

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="messages")
    site = models.ForeignKey(Site, on_delete=models.PROTECT, related_name="+")
    run = models.ForeignKey("runs.Run", null=True, blank=True, on_delete=models.CASCADE, related_name="+")
    sweep = models.ForeignKey(Sweep, null=True, blank=True, on_delete=models.CASCADE, related_name="messages")
    first = models.ForeignKey("self", null=True, blank=True, on_delete=models.CASCADE, related_name="others")
    manifest_hash = models.CharField(max_length=64)
    about = models.CharField(max_length=16, choices=About, default=About.STUDY)
    kind = models.CharField(max_length=16, choices=Kind, default=Kind.MESSAGE)
    speaker = models.CharField(max_length=16, choices=Speaker)
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    text = models.TextField(blank=True)
    salt = models.CharField(max_length=64, blank=True)
    digest = models.CharField(max_length=64)
    at = models.DateTimeField(auto_now_add=True)
    erased_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering: ClassVar = ["id"]

    def __str__(self) -> str:
        return f"message {self.pk}"
