"""Sealed files: those that are stored, those on their way, and what they are to a run."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from enclave_jobs.enclaves.models import Enclave
from enclave_jobs.runs.models import Round, Run
from federation.ids import new_id
from federation.sites.models import Site


class BlobKind(models.TextChoices):
    UPDATE = "update", _("a site's update")
    NEXT = "next", _("the next state, sealed to the client slices")
    STATE = "state", _("the enclave's own sealed state")
    SHARD = "shard", _("a shard of a site's features")
    RELEASE = "release", _("released parameters, sealed to the sites")
    EXPORT = "export", _("released parameters, in clear")
    START = "start", _("a released adapter that tuning starts from")


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
