"""Dataset cards. Rows never leave the site; a card is all that the coordinator knows of a dataset."""

from __future__ import annotations

from typing import ClassVar

import msgspec
from django.db import models

from contracts.kinds import Kind
from federation.ids import new_id
from federation.sites.models import Site


class Dataset(models.Model):
    """A dataset as its site's agent published it; `card` has the fields of `datasets.cards.Card`, `about`
    those of `datasets.about.LIMITS`: what the site's admin says of it.

    `digest` is the site-keyed HMAC-SHA-256 of the content, in hex. A card never changes: a changed dataset is
    withdrawn and published again.
    """

    id = models.CharField(primary_key=True, max_length=64, default=new_id, editable=False)
    site = models.ForeignKey(Site, on_delete=models.PROTECT, related_name="datasets")
    name = models.CharField(max_length=200)
    card = models.JSONField()
    about = models.JSONField(default=dict, blank=True)
    rows = models.PositiveIntegerField()
    digest = models.CharField(max_length=64)
    published_at = models.DateTimeField(auto_now_add=True)
    withdrawn_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering: ClassVar = ["site_id", "name", "published_at"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["site", "name"],
                condition=models.Q(withdrawn_at__isnull=True),
                name="one_active_dataset_per_name",
            )
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def kind(self) -> Kind:
        """What each of its rows is."""
        return msgspec.convert(self.card.get("kind", "text-label"), Kind)
