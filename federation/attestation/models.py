"""Reference values, nonces, appraisals with the evidence they judged, and the transparency log."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from federation.sites.models import Site
from federation.studies.models import Study


class Root(models.TextChoices):
    INTEL = "intel", _("Intel")
    DEVELOPMENT = "development", _("development only, not hardware")


class Reference(models.Model):
    """An accepted enclave identity, with its history. `values` has the fields of `contracts.policy`'s
    SgxReference or TdxReference; `measurement` repeats MRENCLAVE, MRSIGNER or a trust domain's for searching.

    Rows are never changed but for the suspension, which stops the use at the next key release.
    """

    root = models.CharField(max_length=16, choices=Root)
    program = models.CharField(max_length=32)
    measurement = models.CharField(max_length=96)
    values = models.JSONField()
    source_commit = models.CharField(max_length=64, blank=True)
    reason = models.CharField(max_length=500)
    added_by = models.CharField(max_length=254)
    added_at = models.DateTimeField(auto_now_add=True)
    valid_from = models.DateTimeField()
    suspended_at = models.DateTimeField(null=True, blank=True)
    suspended_by = models.CharField(max_length=254, blank=True)
    suspended_reason = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["root", "program", "measurement"],
                condition=models.Q(suspended_at__isnull=True),
                name="one_live_reference_per_measurement",
            )
        ]

    def __str__(self) -> str:
        return f"{self.program} {self.measurement[:16]}"


class Nonce(models.Model):
    """32 random bytes (hex) that one piece of evidence may answer, once. `purpose` says what for."""

    value = models.CharField(max_length=64, unique=True)
    purpose = models.CharField(max_length=128)
    issued_at = models.DateTimeField(auto_now_add=True)
    expires = models.DateTimeField(db_index=True)
    consumed_at = models.DateTimeField(null=True, blank=True)


class StoredEvidence(models.Model):
    """A raw thing that log entries name by its SHA-256. A quote's PCK certificate names the platform (PPID):
    quotes are the auditor's to read, and no index or page shows what is in them."""

    KINDS: ClassVar = [
        ("quote", _("quote")),
        ("collateral", _("collateral")),
        ("policy", _("policy")),
        ("manifest", _("run manifest")),
    ]

    sha256 = models.CharField(primary_key=True, max_length=64)
    kind = models.CharField(max_length=16, choices=KINDS)
    data = models.BinaryField()
    stored_at = models.DateTimeField(auto_now_add=True)


class LogEntry(models.Model):
    """A leaf of the log. `index` counts from 0; `data` is the canonical entry with this `leaf_hash`.

    `study`, `program`, `verdict` and `code` repeat what the entry says, for searching: they are no part of
    the leaf, and nobody needs to believe them. Sites are in LogMention, for an entry may tell of several.
    """

    index = models.PositiveBigIntegerField(primary_key=True)
    kind = models.CharField(max_length=64)
    at = models.DateTimeField()
    data = models.TextField()
    leaf_hash = models.CharField(max_length=64, db_index=True)
    study = models.ForeignKey(
        Study, null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    program = models.CharField(max_length=32, blank=True)
    verdict = models.CharField(max_length=16, blank=True)
    code = models.CharField(max_length=64, blank=True)

    class Meta:
        ordering: ClassVar = ["index"]
        verbose_name_plural = "log entries"
        # Each ends in the page's key, so that a filtered page is read from its index from the key on.
        indexes: ClassVar = [
            models.Index(fields=["kind", "index"], name="log_by_kind"),
            models.Index(fields=["study", "index"], name="log_by_study"),
            models.Index(fields=["program", "index"], name="log_by_program"),
            models.Index(fields=["verdict", "index"], name="log_by_verdict"),
            models.Index(fields=["code", "index"], name="log_by_code"),
            models.Index(fields=["at", "index"], name="log_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.index} {self.kind}"


class LogHead(models.Model):
    """The one row that appending locks, so that leaves get their places one after the other."""

    size = models.PositiveBigIntegerField(default=0)


class LogNode(models.Model):
    """The hash of the full subtree over leaves [index·2^level, (index+1)·2^level), level ≥ 1. It never
    changes, and it makes a root or a proof cost a few look-ups instead of the whole tree."""

    level = models.PositiveSmallIntegerField()
    index = models.PositiveBigIntegerField()
    hash = models.CharField(max_length=64)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["level", "index"], name="one_node_per_place")
        ]


class Checkpoint(models.Model):
    """A signed statement of the log's size and root; `note` is the C2SP signed note."""

    size = models.PositiveBigIntegerField(unique=True)
    root = models.CharField(max_length=64)
    note = models.TextField()
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["-size"]


class AppraisalRecord(models.Model):
    """A verdict on evidence, accepted or refused, with every check. It has its entry in the log."""

    run = models.ForeignKey(
        "runs.Run", null=True, blank=True, on_delete=models.PROTECT, related_name="appraisals"
    )
    site = models.ForeignKey(Site, null=True, blank=True, on_delete=models.PROTECT, related_name="appraisals")
    program = models.CharField(max_length=32)
    at = models.DateTimeField()
    verdict = models.CharField(max_length=16)
    code = models.CharField(max_length=64, blank=True)
    tee = models.CharField(max_length=8, blank=True)
    status = models.CharField(max_length=64, blank=True)
    advisories = models.JSONField(default=list, blank=True)
    measurement = models.CharField(max_length=96, blank=True, db_index=True)
    development = models.BooleanField()
    checks = models.JSONField(default=list)
    claims = models.JSONField()
    quote_sha256 = models.CharField(max_length=64)
    collateral_sha256 = models.CharField(max_length=64)
    log_entry = models.OneToOneField(LogEntry, on_delete=models.PROTECT, related_name="appraisal")

    class Meta:
        ordering: ClassVar = ["-id"]
        indexes: ClassVar = [models.Index(fields=["site", "program", "-id"], name="evidence_of_one_enclave")]


class LogMention(models.Model):
    """A log entry tells of a site. This is the log's index by site; nothing in it is part of the leaf."""

    entry = models.ForeignKey(LogEntry, on_delete=models.PROTECT, related_name="mentions", db_index=False)
    site = models.ForeignKey(Site, on_delete=models.PROTECT, related_name="+", db_index=False)

    class Meta:
        ordering: ClassVar = ["entry_id", "site_id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["site", "entry"], name="one_mention_per_site_and_entry"),
        ]
        indexes: ClassVar = [models.Index(fields=["entry"], name="mentions_of_an_entry")]


class CollateralSet(models.Model):
    """Collateral for one kind of platform, in the cache by the SHA-256 of its canonical JSON.

    `parts` lists its dated parts: {name, from, until} in Unix seconds; `expires` is the earliest end. For one
    (root, tee, fmspc, ca) the row that was fetched last is in use: an older one is never let in over it.
    """

    sha256 = models.CharField(primary_key=True, max_length=64)
    root = models.CharField(max_length=16, choices=Root)
    root_sha256 = models.CharField(max_length=64)
    tee = models.CharField(max_length=8)
    fmspc = models.CharField(max_length=12)
    ca = models.CharField(max_length=16)
    data = models.BinaryField()
    parts = models.JSONField()
    issued = models.DateTimeField()
    expires = models.DateTimeField(db_index=True)
    tcb_evaluation = models.PositiveBigIntegerField()
    qe_evaluation = models.PositiveBigIntegerField()
    root_ca_crl_number = models.PositiveBigIntegerField()
    pck_crl_number = models.PositiveBigIntegerField()
    source = models.CharField(max_length=300)
    fetched_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["expires"]
        indexes: ClassVar = [
            models.Index(fields=["root", "tee", "fmspc", "ca", "-fetched_at"], name="collateral_in_use")
        ]

    def __str__(self) -> str:
        return f"{self.tee} {self.fmspc} {self.ca}"


class PlatformKind(models.Model):
    """A kind of hardware platform that somebody here has, so that its collateral is kept fresh.

    `fault` is the code of the last attempt to fetch it, empty after a success. It names a family of
    processors (FMSPC), never one machine.
    """

    tee = models.CharField(max_length=8)
    fmspc = models.CharField(max_length=12)
    ca = models.CharField(max_length=16)
    first_seen = models.DateTimeField(auto_now_add=True)
    tried_at = models.DateTimeField(null=True, blank=True)
    fault = models.CharField(max_length=64, blank=True)

    class Meta:
        ordering: ClassVar = ["tee", "fmspc", "ca"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tee", "fmspc", "ca"], name="one_row_per_platform_kind")
        ]

    def __str__(self) -> str:
        return f"{self.tee} {self.fmspc} {self.ca}"


class CollateralFloor(models.Model):
    """The highest numbers that the coordinator has accepted (attestation.floors.Floor). They only rise."""

    root_sha256 = models.CharField(max_length=64)
    fmspc = models.CharField(max_length=12)
    ca = models.CharField(max_length=16)
    tcb_evaluation = models.PositiveBigIntegerField(default=0)
    qe_evaluation = models.PositiveBigIntegerField(default=0)
    root_ca_crl_number = models.PositiveBigIntegerField(default=0)
    pck_crl_number = models.PositiveBigIntegerField(default=0)

    class Meta:
        ordering: ClassVar = ["root_sha256", "fmspc", "ca"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["root_sha256", "fmspc", "ca"], name="one_floor_per_platform_kind")
        ]


class ReviewState(models.TextChoices):
    OPEN = "open", _("open")
    APPROVED = "approved", _("approved")
    REJECTED = "rejected", _("rejected")


class Review(models.Model):
    """A measurement that differs from those in force, and what two people decide about it.

    `replaced` lists the measurements that were in force when it was opened; `sites` are those whose enclaves
    showed the new one. `opened_by` is a person, or `evidence`.
    """

    root = models.CharField(max_length=16, choices=Root)
    program = models.CharField(max_length=32)
    measurement = models.CharField(max_length=96)
    values = models.JSONField()
    replaced = models.JSONField(default=list)
    state = models.CharField(max_length=16, choices=ReviewState, default=ReviewState.OPEN)
    source_commit = models.CharField(max_length=64, blank=True)
    reason = models.CharField(max_length=500)
    valid_from = models.DateTimeField(null=True, blank=True)
    opened_by = models.CharField(max_length=254)
    opened_at = models.DateTimeField(auto_now_add=True)
    closed_at = models.DateTimeField(null=True, blank=True)
    sites = models.ManyToManyField(Site, related_name="reviews", blank=True)

    class Meta:
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["root", "program", "measurement"],
                condition=models.Q(state="open"),
                name="one_open_review_per_measurement",
            )
        ]

    def __str__(self) -> str:
        return f"{self.program} {self.measurement[:16]}"


class ReviewVote(models.Model):
    """One person's word on a review; nobody has two. The role is the one that they had when they gave it."""

    review = models.ForeignKey(Review, on_delete=models.CASCADE, related_name="votes")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    email = models.CharField(max_length=254)
    role = models.CharField(max_length=16)
    approves = models.BooleanField()
    note = models.CharField(max_length=500, blank=True)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["review", "user"], name="one_vote_per_person_and_review")
        ]
