"""Who did what: one row per action, with a dotted action name that pages translate."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class AuditEntry(models.Model):
    """`actor` is an e-mail address, `site:<id>` or `system`; `target` is `<kind>:<id>`. Both are text, so
    they outlive what they name. Facts hold no secret, row or tensor."""

    at = models.DateTimeField(auto_now_add=True, db_index=True)
    actor = models.CharField(max_length=254)
    action = models.CharField(max_length=64)
    target = models.CharField(max_length=128)
    facts = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering: ClassVar = ["-id"]
        # Each ends in the page's key, so that a filtered page is read from its index from the key on.
        indexes: ClassVar = [
            models.Index(fields=["actor", "-id"], name="audit_by_actor"),
            models.Index(fields=["action", "-id"], name="audit_by_action"),
            models.Index(fields=["target", "-id"], name="audit_by_target"),
        ]

    def __str__(self) -> str:
        return f"{self.actor} {self.action} {self.target}"
