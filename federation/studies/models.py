"""Base models, studies with their approvals and sweeps, and the events of studies and of what runs of them
(enclave_jobs/runs)."""

from __future__ import annotations

from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from contracts.model_proof import Verdict, Way, read_proof
from contracts.refusal import Refusal
from federation.datasets.models import Dataset
from federation.ids import new_id
from federation.sites.models import Site
from federation.studies.transitions import STUDY
from federation.transitions import Timelined


class StudyState(models.TextChoices):
    DRAFT = "draft", _("draft")
    APPROVING = "approving", _("waiting for approvals")
    READY = "ready", _("ready to launch")
    RUNNING = "running", _("running")
    FINISHED = "finished", _("finished")
    CANCELLED = "cancelled", _("cancelled")


class BaseModel(models.Model):
    """A public base model that studies may name, pinned by the hash of every file that is read.

    `files` maps a path inside the model's folder to its SHA-256. `targets` are the usual LoRA targets of its
    architecture; `config` has the numbers of its configuration from which costs are counted. All of it is
    from `proof`, a `contracts.model_proof.ModelProof`: what was seen when the model was loaded once, in a
    child of the job that registered it. The control plane loads no model.
    """

    source = models.CharField(max_length=200)
    task = models.CharField(max_length=32)
    files = models.JSONField()
    name = models.CharField(max_length=200)
    parameters = models.PositiveBigIntegerField(null=True, blank=True)
    max_tokens = models.PositiveIntegerField(default=512)
    targets = models.JSONField(default=list, blank=True)
    config = models.JSONField(default=dict, blank=True)
    proof = models.JSONField(default=dict, blank=True)
    registered_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering: ClassVar = ["name", "task"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["source", "task"], name="one_base_model_per_source_and_task")
        ]

    def __str__(self) -> str:
        return self.name

    def verdict(self, way: Way) -> Verdict:
        """Whether the model was seen to be tuned in this way; one without a proof was not."""
        try:
            proof = read_proof(self.proof)
        except Refusal as refusal:
            return Verdict(refusal.code, refusal.facts)
        return proof.verdict(way) if proof.files == self.files else Verdict("model.no_proof")


class Study(Timelined):
    """Purpose + base model + task + method + sites and datasets. `settings` has the fields of
    `studies.plan.Plan`; `manifest` is the canonical JSON of the frozen run manifest, whose SHA-256 is
    `manifest_hash`."""

    id = models.CharField(primary_key=True, max_length=64, default=new_id, editable=False)
    name = models.CharField(max_length=200)
    purpose = models.TextField(max_length=4000, blank=True)
    lead = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="studies")
    state = models.CharField(max_length=16, choices=StudyState, default=StudyState.DRAFT)
    settings = models.JSONField(default=dict, blank=True)
    datasets = models.ManyToManyField(Dataset, blank=True, related_name="studies")
    manifest = models.TextField(null=True, blank=True)
    manifest_hash = models.CharField(max_length=64, blank=True, db_index=True)
    created_at = models.DateTimeField(auto_now_add=True)

    pairs = STUDY

    class Meta:
        ordering: ClassVar = ["-created_at", "id"]
        verbose_name_plural = "studies"
        indexes: ClassVar = [models.Index(fields=["-created_at", "id"], name="studies_newest_first")]

    def __str__(self) -> str:
        return self.name

    @property
    def belongs(self) -> dict[str, Any]:
        return {"study": self}


class Approval(models.Model):
    """A site's word on one manifest hash. The browser's part is for people; only the signature counts.
    `confirmed` are the members whose keys the site has compared; `sweep` is what one signature for a whole
    sweep states, with the manifest's path to it (contracts/approvals.py)."""

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="approvals")
    site = models.ForeignKey(Site, on_delete=models.PROTECT, related_name="approvals")
    manifest_hash = models.CharField(max_length=64)
    browser_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="approvals"
    )
    browser_at = models.DateTimeField(null=True, blank=True)
    confirmed = models.JSONField(default=list, blank=True)
    signature = models.CharField(max_length=128, null=True, blank=True)
    sweep = models.JSONField(null=True, blank=True)
    signed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering: ClassVar = ["site_id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["study", "site", "manifest_hash"], name="one_approval_per_site_and_manifest"
            )
        ]


class StartingAdapter(models.Model):
    """A LoRA adapter that an earlier study released, brought here by a lead to start tuning from. Its file is
    the blob `sha256`; `about` is what its package says of it (enclave_jobs/releases/starting.py)."""

    sha256 = models.CharField(max_length=64)
    name = models.CharField(max_length=200)
    about = models.JSONField()
    added_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    added_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["-added_at"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["sha256", "added_by"], name="one_starting_adapter_per_person")
        ]

    def __str__(self) -> str:
        return self.name


class ModelJobKind(models.TextChoices):
    REGISTER = "register", _("register a model")
    FREEZE = "freeze", _("try a study's tuning")


class ModelJobState(models.TextChoices):
    WAITING = "waiting", _("waiting")
    RUNNING = "running", _("running")
    DONE = "done", _("done")
    REFUSED = "refused", _("refused")


class ModelJob(models.Model):
    """Work on a base model that somebody asked for on a page. `progress` is what the child said last;
    `subject` names what a done freeze job saw to work (`tried.subject_of`)."""

    kind = models.CharField(max_length=16, choices=ModelJobKind)
    state = models.CharField(max_length=16, choices=ModelJobState, default=ModelJobState.WAITING)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    study = models.ForeignKey(
        Study, null=True, blank=True, on_delete=models.CASCADE, related_name="model_jobs"
    )
    source = models.CharField(max_length=200)
    task = models.CharField(max_length=32)
    name = models.CharField(max_length=200, blank=True)
    progress = models.JSONField(default=dict, blank=True)
    subject = models.CharField(max_length=64, blank=True)
    error_code = models.CharField(max_length=64, blank=True)
    facts = models.JSONField(default=dict, blank=True)
    asked_at = models.DateTimeField(auto_now_add=True)
    moved_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        return f"{self.kind} {self.source}"


class Event(models.Model):
    """One applied transition, or something else worth a line: the timeline that people see, and the outbox.

    Events of a study before its launch have no run. `kind` is dotted (`run.joining`, `contribution.dropped`).
    """

    study = models.ForeignKey(Study, null=True, blank=True, on_delete=models.CASCADE, related_name="events")
    run = models.ForeignKey(
        "runs.Run", null=True, blank=True, on_delete=models.CASCADE, related_name="events"
    )
    round = models.ForeignKey(
        "runs.Round", null=True, blank=True, on_delete=models.CASCADE, related_name="events"
    )
    site = models.ForeignKey(Site, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    at = models.DateTimeField(auto_now_add=True)
    kind = models.CharField(max_length=64)
    from_state = models.CharField(max_length=16, blank=True)
    to_state = models.CharField(max_length=16, blank=True)
    facts = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering: ClassVar = ["id"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(study__isnull=False) | models.Q(run__isnull=False),
                name="an_event_belongs_to_a_study_or_a_run",
            )
        ]


class Sweep(models.Model):
    """Studies that differ in their ratio, cut, selection or seed alone, cloned from one to be compared.
    `releases`: of how many of its results a hospital is asked to allow the release."""

    id = models.CharField(primary_key=True, max_length=64, default=new_id, editable=False)
    name = models.CharField(max_length=200)
    lead = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="sweeps")
    releases = models.PositiveIntegerField(default=1)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["-created_at", "id"]

    def __str__(self) -> str:
        return self.name


class SweepPoint(models.Model):
    """One study of a sweep. `ratio` is in percent, of heads and dense rows alike."""

    sweep = models.ForeignKey(Sweep, on_delete=models.CASCADE, related_name="points")
    study = models.OneToOneField(Study, on_delete=models.CASCADE, related_name="sweep_point")
    ratio = models.FloatField()
    cut = models.PositiveIntegerField()
    select = models.CharField(max_length=16)
    seed = models.PositiveBigIntegerField()

    class Meta:
        ordering: ClassVar = ["sweep_id", "cut", "select", "ratio", "seed"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["sweep", "ratio", "cut", "select", "seed"], name="one_study_per_point_of_a_sweep"
            )
        ]
