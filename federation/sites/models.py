"""Hospitals: their life, their agents' keys, and what their agents reported."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.db import models
from django.db.models.functions import Lower
from django.utils.translation import gettext_lazy as _

from contracts.fingerprint import site_fingerprint
from federation.ids import new_id

WEEK = timedelta(days=7)


class SiteState(models.TextChoices):
    INVITED = "invited", _("invited")
    ENROLLED = "enrolled", _("enrolled")
    ACTIVE = "active", _("active")
    SUSPENDED = "suspended", _("suspended")
    REVOKED = "revoked", _("revoked")


class StoppedBy(models.TextChoices):
    SITE = "site", _("the hospital itself")
    OPERATOR = "operator", _("the coordinator's operator")


class Site(models.Model):
    """A hospital. `public_key` is its agent's Ed25519 key in hex, `approval_key` the one with which a person
    there approves (`development_key`: no passphrase protects it); the private halves never leave the site.

    The name is empty until its admin gives it. `checks` is the agent's last list of connection checks, made
    at `checks_at`; `check_wanted` asks the agent for new ones. `pck_chain` is the certificate chain that our
    development root gave to its platform. `suspended_by` is who may let a suspended site work again: whoever
    stopped it. `colour` counts sites from 0: by it a hospital has the same colour
    on every page.
    """

    id = models.CharField(primary_key=True, max_length=64, default=new_id, editable=False)
    name = models.CharField(max_length=200, blank=True)
    state = models.CharField(max_length=16, choices=SiteState, default=SiteState.INVITED)
    public_key = models.CharField(max_length=64, blank=True)
    approval_key = models.CharField(max_length=64, blank=True)
    development_key = models.BooleanField(default=False)
    agent_version = models.CharField(max_length=64, blank=True)
    runtime = models.CharField(max_length=32, blank=True)
    last_seen = models.DateTimeField(null=True, blank=True)
    checks = models.JSONField(default=list, blank=True)
    checks_at = models.DateTimeField(null=True, blank=True)
    check_wanted = models.BooleanField(default=False)
    pck_chain = models.TextField(blank=True)
    suspended_by = models.CharField(max_length=16, choices=StoppedBy, blank=True)
    colour = models.PositiveIntegerField(default=0, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["name", "id"]
        constraints: ClassVar = [
            models.UniqueConstraint(Lower("name"), condition=~models.Q(name=""), name="one_site_per_name"),
            models.UniqueConstraint(
                fields=["public_key"], condition=~models.Q(public_key=""), name="one_site_per_key"
            ),
            models.UniqueConstraint(
                fields=["approval_key"],
                condition=~models.Q(approval_key=""),
                name="one_site_per_approval_key",
            ),
        ]

    def __str__(self) -> str:
        return self.name or f"unnamed site {self.id}"

    def save(self, *args: Any, **named: Any) -> None:
        """A new site gets the next colour."""
        if self._state.adding:
            self.colour = Site.objects.count()
        super().save(*args, **named)

    @property
    def fingerprint(self) -> str:
        """Of both keys: what hospitals tell each other by letter or telephone. Empty before the enrolment."""
        return site_fingerprint(self.public_key, self.approval_key) if self.public_key else ""


class AgentInstance(models.Model):
    """Where a site's agent runs (`place`, `boot`: contracts/instance.py); other machines with its key are
    refused. `heard_at` is None once the agent has said that it ends. `former_place` is where it was moved
    from. `other_*` is the last machine that was refused, `other_tries` how often."""

    site = models.OneToOneField(Site, primary_key=True, on_delete=models.CASCADE, related_name="instance")
    place = models.CharField(max_length=32)
    boot = models.CharField(max_length=32)
    machine = models.CharField(max_length=64)
    address = models.CharField(max_length=64)
    since = models.DateTimeField()
    heard_at = models.DateTimeField(null=True, blank=True)
    former_place = models.CharField(max_length=32, blank=True)
    other_place = models.CharField(max_length=32, blank=True)
    other_boot = models.CharField(max_length=32, blank=True)
    other_machine = models.CharField(max_length=64, blank=True)
    other_address = models.CharField(max_length=64, blank=True)
    other_at = models.DateTimeField(null=True, blank=True)
    other_tries = models.PositiveIntegerField(default=0)


class EnrolmentToken(models.Model):
    """The one-time secret in a command of the hospital's page. Its SHA-256 is kept, and a `salt` from which
    this coordinator alone makes the secret again, so that the page can be loaded again while it is good."""

    salt = models.CharField(max_length=43)
    site = models.ForeignKey(Site, on_delete=models.CASCADE, related_name="enrolment_tokens")
    token_hash = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    expires = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)


class UsedTokenId(models.Model):
    """The `jti` of a JWT that was used. The unique key is what refuses a replay; rows go after `expires`."""

    jti = models.CharField(max_length=128, unique=True)
    expires = models.DateTimeField(db_index=True)


class SiteEvent(models.Model):
    """One applied transition of a site. `actor` is written as in the audit trail."""

    site = models.ForeignKey(Site, on_delete=models.CASCADE, related_name="events")
    at = models.DateTimeField(auto_now_add=True)
    from_state = models.CharField(max_length=16)
    to_state = models.CharField(max_length=16)
    actor = models.CharField(max_length=254)
    note = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering: ClassVar = ["id"]


class MaintenanceWindow(models.Model):
    """A time in which the site gets no new work. A weekly one comes back every seven days, at the same time
    UTC, until it is removed. Work that the agent has taken already may still be handed in."""

    site = models.ForeignKey(Site, on_delete=models.CASCADE, related_name="maintenance")
    starts = models.DateTimeField()
    ends = models.DateTimeField()
    weekly = models.BooleanField(default=False)
    reason = models.CharField(max_length=200, blank=True)
    made_by = models.CharField(max_length=254)

    class Meta:
        ordering: ClassVar = ["starts", "id"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(ends__gt=models.F("starts")), name="maintenance_ends_after_it_starts"
            )
        ]

    def occurrence(self, now: datetime) -> tuple[datetime, datetime]:
        """The window that is open at `now`, else the next one; of a window that never comes back, itself."""
        if not self.weekly or now < self.ends:
            return self.starts, self.ends
        gone = (now - self.ends) // WEEK + 1
        return self.starts + gone * WEEK, self.ends + gone * WEEK

    def is_open(self, now: datetime) -> bool:
        """Whether `now` lies inside."""
        starts, ends = self.occurrence(now)
        return starts <= now < ends
