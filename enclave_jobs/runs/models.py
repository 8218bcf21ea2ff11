"""Runs, their rounds, and what each site contributes to a round."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from enclave_jobs.runs.transitions import CONTRIBUTION, ROUND, RUN
from federation.ids import new_id
from federation.sites.models import Site
from federation.studies.models import Study
from federation.transitions import Timelined


class RunState(models.TextChoices):
    STARTING = "starting", _("starting the enclave")
    JOINING = "joining", _("sites are joining")
    RUNNING = "running", _("training")
    PAUSED = "paused", _("paused")
    FINISHING = "finishing", _("finishing")
    FINISHED = "finished", _("finished")
    FAILED = "failed", _("failed")
    CANCELLED = "cancelled", _("cancelled")


class RoundKind(models.TextChoices):
    TRAIN = "train", _("training")
    EVALUATE = "evaluate", _("closing")
    TEST = "test", _("test")


class RoundState(models.TextChoices):
    OPEN = "open", _("open")
    COLLECTING = "collecting", _("collecting")
    COUNTERSIGNING = "countersigning", _("sites are countersigning")
    AGGREGATING = "aggregating", _("aggregating")
    PUBLISHED = "published", _("published")
    FAILED = "failed", _("failed")


class ContributionState(models.TextChoices):
    OFFERED = "offered", _("waiting for the site")
    LEASED = "leased", _("taken by the site")
    WORKING = "working", _("working")
    SUBMITTED = "submitted", _("submitted")
    ACCEPTED = "accepted", _("accepted")
    DROPPED = "dropped", _("left out")
    REFUSED = "refused", _("refused")


PENDING = (ContributionState.OFFERED, ContributionState.LEASED, ContributionState.WORKING)
"""A contribution that may still be handed in."""


class Run(Timelined):
    """One training of a study with one frozen manifest; its id stands in the manifest."""

    id = models.CharField(primary_key=True, max_length=64, default=new_id, editable=False)
    study = models.ForeignKey(Study, on_delete=models.PROTECT, related_name="runs")
    manifest = models.TextField()
    manifest_hash = models.CharField(max_length=64, unique=True)
    state = models.CharField(max_length=16, choices=RunState, default=RunState.STARTING)
    enclave_id = models.CharField(max_length=64, blank=True)
    error_code = models.CharField(max_length=64, blank=True)
    facts = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    summary = models.JSONField(default=dict, blank=True)
    note = models.TextField(max_length=2000, blank=True)
    """What its lead has written beside it (enclave_jobs/runs/notes.py)."""

    pairs = RUN

    class Meta:
        ordering: ClassVar = ["-created_at", "id"]
        indexes: ClassVar = [models.Index(fields=["-created_at", "id"], name="runs_newest_first")]

    def __str__(self) -> str:
        return self.id

    @property
    def belongs(self) -> dict[str, Any]:
        return {"study_id": self.study_id, "run": self}


class Tag(models.Model):
    """A word by which a run's lead finds it again."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="tags")
    name = models.CharField(max_length=30, db_index=True)

    class Meta:
        ordering: ClassVar = ["id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["run", "name"], name="one_tag_per_name_and_run")
        ]

    def __str__(self) -> str:
        return self.name


class Round(Timelined):
    """One round of a run, numbered from 1. `next_blob` and `state_blob` name sealed files by SHA-256."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="rounds")
    number = models.PositiveIntegerField()
    kind = models.CharField(max_length=16, choices=RoundKind, default=RoundKind.TRAIN)
    state = models.CharField(max_length=16, choices=RoundState, default=RoundState.OPEN)
    deadline = models.DateTimeField(null=True, blank=True)
    roster = models.JSONField(null=True, blank=True)
    next_blob = models.CharField(max_length=64, blank=True)
    state_blob = models.CharField(max_length=64, blank=True)
    metrics = models.JSONField(default=dict, blank=True)
    receipt = models.JSONField(null=True, blank=True)
    opened_at = models.DateTimeField(auto_now_add=True)
    closed_at = models.DateTimeField(null=True, blank=True)

    pairs = ROUND

    class Meta:
        ordering: ClassVar = ["run_id", "number"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["run", "number"], name="one_round_per_number")
        ]

    def __str__(self) -> str:
        return f"round {self.number}"

    @property
    def belongs(self) -> dict[str, Any]:
        return {"study_id": self.run.study_id, "run_id": self.run_id, "round": self}

    def waits_for(self) -> set[str]:
        """The ids of the sites that have not handed in yet."""
        return set(self.contributions.filter(state__in=PENDING).values_list("site_id", flat=True))


class Contribution(Timelined):
    """What one site does in one round. `blob` is the SHA-256 of its sealed update; `bytes` its size;
    `measures` what it has cost (seconds, bytes, pads: numbers); `good_for` the server enclave that has looked
    into it and found it good."""

    round = models.ForeignKey(Round, on_delete=models.CASCADE, related_name="contributions")
    site = models.ForeignKey(Site, on_delete=models.PROTECT, related_name="contributions")
    state = models.CharField(max_length=16, choices=ContributionState, default=ContributionState.OFFERED)
    blob = models.CharField(max_length=64, blank=True)
    bytes = models.PositiveBigIntegerField(null=True, blank=True)
    samples = models.PositiveIntegerField(null=True, blank=True)
    good_for = models.CharField(max_length=64, blank=True)
    countersignature = models.CharField(max_length=128, blank=True)
    measures = models.JSONField(default=dict, blank=True)
    error_code = models.CharField(max_length=64, blank=True)
    facts = models.JSONField(default=dict, blank=True)

    pairs = CONTRIBUTION

    class Meta:
        ordering: ClassVar = ["round_id", "site_id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["round", "site"], name="one_contribution_per_site_and_round")
        ]

    @property
    def belongs(self) -> dict[str, Any]:
        return {**self.round.belongs, "site_id": self.site_id}
