"""Jobs: the work of a run that a site's agent takes on by lease."""

from __future__ import annotations

from typing import ClassVar

import msgspec
from django.db import models
from django.utils.translation import gettext_lazy as _

from enclave_jobs.runs.models import Round, Run
from federation.ids import new_id
from federation.sites.models import Site


class JobKind(models.TextChoices):
    JOIN = "join", _("join the run")
    FEATURES = "features", _("compute and seal features")
    REWRAP = "rewrap", _("wrap the feature keys again")
    TRAIN = "train", _("train")
    EVALUATE = "evaluate", _("evaluate")
    COUNTERSIGN = "countersign", _("countersign")
    SHARE = "share", _("name the last receipt")


JOINS = (JobKind.JOIN, JobKind.FEATURES, JobKind.REWRAP)
"""How a site comes to a server enclave: Method 1's way, and Method 2's first and later ones."""


class Inputs(models.Model):
    """What the jobs of many sites are given alike (a roster to sign, the last receipt): kept once, under the
    hash of what it says."""

    sha256 = models.CharField(primary_key=True, max_length=64)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="+")
    said = models.JSONField()

    class Meta:
        verbose_name_plural = "inputs"

    def __str__(self) -> str:
        return self.sha256


class JobState(models.TextChoices):
    WAITING = "waiting", _("waiting for the site")
    LEASED = "leased", _("leased")
    DONE = "done", _("done")
    FAILED = "failed", _("failed")
    EXPIRED = "expired", _("expired")
    WITHDRAWN = "withdrawn", _("withdrawn")


class Job(models.Model):
    """A piece of work for one site's agent. `lease_number` grows with each lease; the number names the lease.

    `enclave` is the server enclave that the job was made for: a job of an enclave that is gone is withdrawn.
    `inputs` are this site's own, beside those that it has in `common` with others.
    """

    id = models.CharField(primary_key=True, max_length=64, default=new_id, editable=False)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="jobs")
    round = models.ForeignKey(Round, null=True, blank=True, on_delete=models.CASCADE, related_name="jobs")
    site = models.ForeignKey(Site, on_delete=models.PROTECT, related_name="jobs")
    enclave = models.CharField(max_length=64)
    kind = models.CharField(max_length=16, choices=JobKind)
    state = models.CharField(max_length=16, choices=JobState, default=JobState.WAITING)
    lease_number = models.PositiveIntegerField(default=0)
    lease_deadline = models.DateTimeField(null=True, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    not_before = models.DateTimeField(null=True, blank=True)
    progress = models.JSONField(default=dict, blank=True)
    attempts = models.PositiveIntegerField(default=0)
    inputs = models.JSONField(default=dict, blank=True)
    common = models.ForeignKey(Inputs, null=True, blank=True, on_delete=models.CASCADE, related_name="+")
    result = models.JSONField(default=dict, blank=True)
    error_code = models.CharField(max_length=64, blank=True)
    facts = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["created_at", "id"]
        indexes: ClassVar = [
            models.Index(fields=["site", "state"]),
            models.Index(fields=["state", "lease_deadline"]),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["enclave", "site"],
                condition=models.Q(kind__in=JOINS),
                name="one_join_per_enclave_and_site",
            ),
            models.UniqueConstraint(
                fields=["round", "site", "kind", "enclave"],
                condition=models.Q(round__isnull=False),
                name="one_job_per_round_site_kind_and_enclave",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"

    @property
    def given(self) -> msgspec.Raw:
        """The inputs as its agent gets them, and reads them by the struct of its kind, of which they were
        written."""
        return msgspec.Raw(msgspec.json.encode({**(self.common.said if self.common else {}), **self.inputs}))
