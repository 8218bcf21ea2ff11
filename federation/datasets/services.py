"""Agents publish and withdraw dataset cards. Every write about datasets is here."""

from __future__ import annotations

from typing import Any

import msgspec
from django.db import IntegrityError, transaction
from django.utils import timezone

from contracts.agents_api.datasets import Card
from contracts.refusal import Refusal
from federation.audit.services import record
from federation.datasets.cards import check, read
from federation.datasets.models import Dataset

HOLDING_STATES = ("approving", "ready", "running")


def publish(agent: Any, *, name: str, digest: str, card: Card) -> Dataset:
    """Store the card of a dataset of the agent's own site. The same card published again is the same dataset.

    Raises: `card.name_taken` (another content under an active name) or what `cards.check` raises.
    """
    check(card)
    stored = msgspec.to_builtins(card)
    try:
        with transaction.atomic():
            dataset = Dataset.objects.create(
                site=agent.site, name=name, digest=digest, card=stored, rows=card.rows
            )
            record(agent, "dataset.published", f"dataset:{dataset.pk}", name=name, rows=card.rows)
    except IntegrityError as error:
        same = Dataset.objects.filter(site=agent.site, name=name, withdrawn_at=None, digest=digest).first()
        if same is None or read(same.card) != card:
            raise Refusal("card.name_taken", name=name) from error
        return same
    return dataset


def withdraw(agent: Any, dataset_id: str) -> Dataset:
    """Take a dataset of the agent's own site off the offer; doing it twice changes nothing.

    Raises: `request.not_found` for what is not the site's, and `card.in_use` while a frozen study counts on
    it.
    """
    with transaction.atomic():
        dataset = Dataset.objects.select_for_update().filter(pk=dataset_id, site=agent.site).first()
        if dataset is None:
            raise Refusal("request.not_found")
        if dataset.studies.filter(state__in=HOLDING_STATES).exists():
            raise Refusal("card.in_use", name=dataset.name)
        if dataset.withdrawn_at is None:
            dataset.withdrawn_at = timezone.now()
            dataset.save(update_fields=["withdrawn_at"])
            record(agent, "dataset.withdrawn", f"dataset:{dataset.pk}", name=dataset.name)
    return dataset
