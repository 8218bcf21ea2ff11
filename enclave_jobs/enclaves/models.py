"""Server enclaves of a run, and the client slices that each of them has admitted."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from enclave_jobs.runs.models import Run
from federation.sites.models import Site


class EnclaveState(models.TextChoices):
    STARTING = "starting", _("starting")
    READY = "ready", _("attested")
    LOST = "lost", _("lost")
    STOPPED = "stopped", _("stopped")


class Enclave(models.Model):
    """A server enclave of a run. `epoch` counts the run's enclaves from 1: a restart means new keys. One that
    `serves` was started after the run's end, to answer its sites' questions; one that `releases`, to let the
    tuned parameters out.

    `supervisor` is the address (host:port) of the machine's supervisor that holds it; empty where there is
    one supervisor, which tells its address itself. A run's enclaves stay on one machine, where what they seal
    for themselves opens; conductor/moving.py knows which runs can leave it. `signing_key` (Ed25519, hex) is
    proven by the evidence that the coordinator itself appraised.
    """

    id = models.CharField(primary_key=True, max_length=64)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="enclaves")
    epoch = models.PositiveIntegerField()
    program = models.CharField(max_length=32)
    serves = models.BooleanField(default=False)
    supervisor = models.CharField(max_length=255, blank=True)
    releases = models.BooleanField(default=False)
    state = models.CharField(max_length=16, choices=EnclaveState, default=EnclaveState.STARTING)
    signing_key = models.CharField(max_length=64, blank=True)
    measurement = models.CharField(max_length=96, blank=True)
    development = models.BooleanField(default=True)
    started_at = models.DateTimeField(auto_now_add=True)
    ready_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering: ClassVar = ["run_id", "epoch"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["run", "epoch"], name="one_enclave_per_epoch")
        ]

    def __str__(self) -> str:
        return self.id


class Admission(models.Model):
    """A site's client slice that a server enclave has admitted after appraising it."""

    enclave = models.ForeignKey(Enclave, on_delete=models.CASCADE, related_name="admissions")
    site = models.ForeignKey(Site, on_delete=models.PROTECT, related_name="+")
    signing_key = models.CharField(max_length=64)
    at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["enclave", "site"], name="one_admission_per_enclave_and_site")
        ]
