"""Who did what: one row per deed, with a dotted action name that pages translate."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class AuditEntry(models.Model):
    """`actor` is an e-mail address, `site:<id>` or `system`; `target` is `<kind>:<id>`. Both are text, so
    they outlive what they name. Facts hold no secret, row or tensor."""

    at = models.DateTimeField(auto_now_add=True, db_index=True)
    actor = models.CharField(max_length=254, db_index=True)
    action = models.CharField(max_length=64, db_index=True)
    target = models.CharField(max_length=128, db_index=True)
    facts = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        return f"{self.actor} {self.action} {self.target}"
