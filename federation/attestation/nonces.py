"""Nonces: fresh, short-lived, and good for one answer, also when two answers come at once."""

from __future__ import annotations

import secrets
from datetime import timedelta

from django.utils import timezone

from contracts.refusal import Refusal
from federation.attestation.models import Nonce

LIFE = timedelta(minutes=5)


def issue(purpose: str) -> str:
    """A new nonce: 32 random bytes in hex. Only evidence for the same purpose may answer it."""
    value = secrets.token_hex(32)
    Nonce.objects.create(value=value, purpose=purpose[:128], expires=timezone.now() + LIFE)
    return value


def consume(value: str, purpose: str) -> None:
    """Spend the nonce by one conditional update, before the evidence is looked at.

    Raises: `nonce.unknown`, `nonce.used` or `nonce.expired`.
    """
    now = timezone.now()
    mine = Nonce.objects.filter(value=value, purpose=purpose)
    if mine.filter(consumed_at=None, expires__gt=now).update(consumed_at=now):
        return
    row = mine.first()
    if row is None:
        raise Refusal("nonce.unknown")
    raise Refusal("nonce.used" if row.consumed_at else "nonce.expired")


def forget_expired() -> int:
    """Drop nonces that expired a day ago or more. Called by upkeep; returns how many."""
    return Nonce.objects.filter(expires__lt=timezone.now() - timedelta(days=1)).delete()[0]
