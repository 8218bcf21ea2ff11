"""Whether a run's model is served, and what each of its sites has used of it. Counts only."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from enclave_jobs.runs.models import Run
from federation.sites.models import Site


class ServiceState(models.TextChoices):
    OFF = "off", _("not served")
    WAITING = "waiting", _("waiting for signatures")
    STARTING = "starting", _("starting the enclave")
    SERVING = "serving", _("serving")
    FAILED = "failed", _("could not be started")


class Service(models.Model):
    """A run whose model is, or was, served. `enclave` is the server enclave that holds the tail now; `losses`
    counts the enclaves that died since somebody last switched it on; `receipt` is the hash of the run's last
    receipt, for which the sites sign."""

    run = models.OneToOneField(Run, on_delete=models.CASCADE, related_name="service")
    state = models.CharField(max_length=16, choices=ServiceState, default=ServiceState.OFF)
    receipt = models.CharField(max_length=64, blank=True)
    enclave = models.CharField(max_length=64, blank=True)
    losses = models.PositiveIntegerField(default=0)
    error_code = models.CharField(max_length=64, blank=True)
    changed_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"service of {self.run_id}"


class ServingSignature(models.Model):
    """One site's signature for serving (`contracts.releases.ReleaseSignature` by the rule `serve-only`);
    `confirmed` are the members whom it knows."""

    service = models.ForeignKey(Service, on_delete=models.CASCADE, related_name="signatures")
    site = models.ForeignKey(Site, on_delete=models.PROTECT, related_name="+")
    confirmed = models.JSONField(default=list, blank=True)
    signature = models.CharField(max_length=128)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["site_id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["service", "site"], name="one_signature_per_service_and_site")
        ]

    def __str__(self) -> str:
        return f"{self.site_id}'s signature of {self.service}"


class Use(models.Model):
    """What one site has used, and whether it still may. `minute` and `in_minute` bound its pace."""

    service = models.ForeignKey(Service, on_delete=models.CASCADE, related_name="uses")
    site = models.ForeignKey(Site, on_delete=models.PROTECT, related_name="+")
    revoked_at = models.DateTimeField(null=True, blank=True)
    why = models.CharField(max_length=500, blank=True)
    sessions = models.PositiveBigIntegerField(default=0)
    requests = models.PositiveBigIntegerField(default=0)
    bytes = models.PositiveBigIntegerField(default=0)
    texts = models.PositiveBigIntegerField(default=0)
    tokens = models.PositiveBigIntegerField(default=0)
    minute = models.PositiveBigIntegerField(default=0)
    in_minute = models.PositiveIntegerField(default=0)
    last_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering: ClassVar = ["site_id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["service", "site"], name="one_use_per_service_and_site")
        ]

    def __str__(self) -> str:
        return f"{self.site_id}'s use of {self.service}"
