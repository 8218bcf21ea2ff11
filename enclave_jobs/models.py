"""What the conductor keeps beside federation's runs and rounds: jobs, server enclaves, sealed blobs."""

from __future__ import annotations

from typing import Any, ClassVar

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
    def told(self) -> dict[str, Any]:
        """The inputs as its agent gets them."""
        return {**(self.common.said if self.common else {}), **self.inputs}


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
    one supervisor, which tells its address itself. A run's enclaves stay on one machine: what they seal for
    themselves opens there. `signing_key` (Ed25519, hex) is proven by the evidence that the coordinator
    itself appraised.
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


class Features(models.Model):
    """Method 2: the sealed shards of a site in a run. `index` is a `sealing.shards.ShardIndex`, `sha256` its
    hash, which rosters and receipts name. `error_code` is set where the server enclave has refused them."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="features")
    site = models.ForeignKey(Site, on_delete=models.PROTECT, related_name="+")
    index = models.JSONField()
    sha256 = models.CharField(max_length=64)
    bytes = models.PositiveBigIntegerField()
    samples = models.PositiveIntegerField()
    error_code = models.CharField(max_length=64, blank=True)
    at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name_plural = "features"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["run", "site"], name="one_index_per_run_and_site")
        ]

    @property
    def shards(self) -> list[str]:
        """The names of the sealed files."""
        return [shard["sha256"] for shard in self.index["shards"]]


class Wrapped(models.Model):
    """Method 2: the keys of a site's shards, sealed to one server enclave; `blob` is the file's SHA-256."""

    enclave = models.ForeignKey(Enclave, on_delete=models.CASCADE, related_name="wrapped")
    site = models.ForeignKey(Site, on_delete=models.PROTECT, related_name="+")
    blob = models.CharField(max_length=64)
    at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["enclave", "site"], name="one_wrapping_per_enclave_and_site")
        ]


class Issue(models.Model):
    """The global parameters after `round`, as sealed for the client slices of `recipients` (their signing
    keys).

    The first issue of a round is its receipt's output. A client slice that came later, or was started again,
    needs another, for which the aggregator signs `reissue` (enclave/programs/history.py).
    """

    round = models.ForeignKey(Round, on_delete=models.CASCADE, related_name="issues")
    enclave = models.CharField(max_length=64)
    sha256 = models.CharField(max_length=64)
    bytes = models.PositiveBigIntegerField()
    recipients = models.JSONField()
    reissue = models.JSONField(null=True, blank=True)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["round", "sha256"], name="one_issue_per_round_and_blob")
        ]


class BlobKind(models.TextChoices):
    UPDATE = "update", _("a site's update")
    NEXT = "next", _("the next state, sealed to the client slices")
    STATE = "state", _("the enclave's own sealed state")
    SHARD = "shard", _("a shard of a site's features")
    RELEASE = "release", _("released parameters, sealed to the sites")
    EXPORT = "export", _("released parameters, in clear")


class Blob(models.Model):
    """A sealed file in the blob store, named by its SHA-256. `owner_site` is null for what an enclave
    wrote."""

    sha256 = models.CharField(primary_key=True, max_length=64)
    bytes = models.PositiveBigIntegerField()
    kind = models.CharField(max_length=16, choices=BlobKind, default=BlobKind.UPDATE)
    owner_site = models.ForeignKey(
        Site, null=True, blank=True, on_delete=models.PROTECT, related_name="blobs"
    )
    run = models.ForeignKey(Run, null=True, blank=True, on_delete=models.CASCADE, related_name="blobs")
    complete = models.BooleanField(default=False)
    downloaded_bytes = models.PositiveBigIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.sha256


class Upload(models.Model):
    """A blob that is on its way. `offset` bytes of it are on disk for good; where it goes into a bucket,
    `multipart` is the storage's name of the upload there, empty until the first part comes."""

    id = models.CharField(primary_key=True, max_length=64, default=new_id, editable=False)
    sha256 = models.CharField(max_length=64)
    bytes = models.PositiveBigIntegerField()
    offset = models.PositiveBigIntegerField(default=0)
    site = models.ForeignKey(Site, on_delete=models.CASCADE, related_name="uploads")
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="uploads")
    kind = models.CharField(max_length=16, choices=BlobKind, default=BlobKind.UPDATE)
    multipart = models.CharField(max_length=1024, blank=True)
    touched_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["site", "run", "sha256"], name="one_upload_per_site_run_and_blob")
        ]
