"""What has expired is forgotten, and nothing else."""

from __future__ import annotations

from django.utils import timezone

from federation.attestation import nonces
from federation.attestation.models import Nonce
from federation.sites.models import UsedTokenId
from federation.upkeep import forget_expired


def test_only_what_can_decide_nothing_any_more_goes(db: None) -> None:
    now, long_ago = timezone.now(), timezone.now() - timezone.timedelta(days=3)
    nonces.issue("fresh")
    Nonce.objects.create(value="0" * 64, purpose="old", expires=long_ago)
    UsedTokenId.objects.create(jti="old", expires=long_ago)
    UsedTokenId.objects.create(jti="fresh", expires=now + timezone.timedelta(seconds=30))
    assert forget_expired() == {
        "token_ids": 1,
        "nonces": 1,
        "collateral": 0,
        "maintenance": 0,
        "reset_wishes": 0,
    }
    assert Nonce.objects.get().purpose == "fresh"
    assert UsedTokenId.objects.get().jti == "fresh"
