"""A site's commitment to its features, where the layers below the adapters are computed in clear by its host.

docs/protocol.md specifies it. A client slice hashes each row of features that its host hands in, and
commits to all of them: HMAC-SHA-256 (RFC 2104) under the site's dataset key, so that nobody can try whether
a row is among them. The aggregator holds a site to the first commitment of any of its instances, counts
instances, and says both in a signed answer. Only on that answer does the slice draw its secret sample: what
the host has handed in by then stays so for the whole run."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from typing import Annotated

from msgspec import Meta, Struct

from contracts import signing
from contracts.policy import Hex32
from contracts.refusal import Refusal
from contracts.signing import SigningKey

FEATURES_DOMAIN = b"fedslice/feature-rows/v1\x00"
COMMITTED_DOMAIN = "fedslice/features-committed/v1"
HELD_DOMAIN = "fedslice/features-held/v1"

Hex64 = Annotated[str, Meta(pattern=r"^[0-9a-f]{128}\Z")]


class Committed(Struct, frozen=True, forbid_unknown_fields=True):
    """What a client slice says at its admission: `features` is the commitment, `signature` (hex) is by the
    attested key of this instance."""

    features: Hex32
    signature: Hex64


class Held(Struct, frozen=True, forbid_unknown_fields=True):
    """What the aggregator answers: this instance is the `begun`-th of its site in the run, and the site is
    held to the commitment; `signature` (hex) is by the aggregator's attested key."""

    begun: Annotated[int, Meta(ge=1, lt=2**31)]
    signature: Hex64


def commitment(rows: Iterable[bytes], key: bytes) -> str:
    """Over the SHA-256 of each row's features, in their order. `key` has 32 bytes."""
    digest = hmac.new(key, FEATURES_DOMAIN, hashlib.sha256)
    for row in rows:
        digest.update(row)
    return digest.hexdigest()


def commit(manifest: str, site: str, features: str, instance: SigningKey) -> Committed:
    """Inside the client slice: sign the commitment, for the run with this manifest hash."""
    return Committed(features, instance.sign(COMMITTED_DOMAIN, _committed(manifest, site, features)))


def require_committed(manifest: str, site: str, committed: Committed, instance: str) -> None:
    """Inside the aggregator: this instance of the site has signed it.

    Raises: `front.not_committed`.
    """
    payload = _committed(manifest, site, committed.features)
    try:
        signing.verify(instance, COMMITTED_DOMAIN, payload, committed.signature)
    except Refusal as refusal:
        raise Refusal("front.not_committed", site=site) from refusal


def hold(manifest: str, site: str, features: str, instance: str, begun: int, signer: SigningKey) -> Held:
    """Inside the aggregator: the signed answer to an instance that was admitted."""
    return Held(begun, signer.sign(HELD_DOMAIN, _held(manifest, site, features, instance, begun)))


def require_held(
    manifest: str, site: str, features: str, instance: str, held: Held, aggregators: Iterable[str]
) -> None:
    """Inside the client slice: one of the admitted aggregators' keys has signed this answer, to this very
    instance.

    Raises: `front.not_held`.
    """
    payload = _held(manifest, site, features, instance, held.begun)
    for key in aggregators:
        try:
            return signing.verify(key, HELD_DOMAIN, payload, held.signature)
        except Refusal:
            continue
    raise Refusal("front.not_held")


def _committed(manifest: str, site: str, features: str) -> dict[str, str]:
    return {"features": features, "manifest": manifest, "site": site}


def _held(manifest: str, site: str, features: str, instance: str, begun: int) -> dict[str, str | int]:
    return {"begun": begun, "features": features, "instance": instance, "manifest": manifest, "site": site}
