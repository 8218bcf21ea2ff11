"""The release of a run's parameters, and the sites' approvals for it: hashes, signatures, public keys."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from enclave_jobs.runs.models import Run
from federation.sites.models import Site


class ReleaseState(models.TextChoices):
    WAITING = "waiting", _("waiting for signatures")
    RELEASING = "releasing", _("the enclave is at work")
    RELEASED = "released", _("released")
    FAILED = "failed", _("could not be released")


class Release(models.Model):
    """`receipt` is the hash of the run's last receipt, for which the sites sign; `statement` the enclave's
    signed word (`sealing.releases.SignedRelease`) and `evidence` what shows that it was that enclave's;
    `removed_at` says since when the released file is no longer kept."""

    run = models.OneToOneField(Run, on_delete=models.CASCADE, related_name="release")
    rule = models.CharField(max_length=32)
    receipt = models.CharField(max_length=64)
    state = models.CharField(max_length=16, choices=ReleaseState, default=ReleaseState.WAITING)
    asked_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    asked_at = models.DateTimeField(auto_now_add=True)
    evidence = models.JSONField(null=True, blank=True)
    statement = models.JSONField(null=True, blank=True)
    output = models.CharField(max_length=64, blank=True)
    bytes = models.PositiveBigIntegerField(default=0)
    losses = models.PositiveIntegerField(default=0)
    error_code = models.CharField(max_length=64, blank=True)
    released_at = models.DateTimeField(null=True, blank=True)
    removed_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"release of {self.run_id}"


class ReleaseSignature(models.Model):
    """One site's signature; `hpke_key` is where it wants its copy sealed to, `confirmed` whom it knows,
    `number` which of a sweep's results it is (contracts/releases.py)."""

    release = models.ForeignKey(Release, on_delete=models.CASCADE, related_name="signatures")
    site = models.ForeignKey(Site, on_delete=models.PROTECT, related_name="+")
    hpke_key = models.TextField(blank=True)
    confirmed = models.JSONField(default=list, blank=True)
    signature = models.CharField(max_length=128)
    number = models.PositiveIntegerField(null=True, blank=True)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["site_id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["release", "site"], name="one_signature_per_release_and_site")
        ]

    def __str__(self) -> str:
        return f"{self.site_id}'s signature of {self.release}"
