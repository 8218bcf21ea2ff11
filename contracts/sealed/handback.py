"""A site's share of a state key on its way back to a server enclave that serves a trained model.

In training, shares travel with the keys of features, and the next roster, which sites countersign, says which
receipt was last. A served model has no next roster. So a site seals its share together with the hash of the
last receipt that it has seen, and the enclave serves only a state that enough of them name: a host that makes
up a state under a key of its own, with shares for the sites, gets no further.
"""

from __future__ import annotations

from io import BytesIO
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from contracts.canonical import canonical
from contracts.policy import Hex32
from contracts.refusal import Refusal
from contracts.sealed.hpke import HpkeKey
from contracts.sealed.shards import SERVER
from contracts.sealed.shares import SHARE_BYTES
from contracts.sealed.stream import Binding, seal, unseal
from contracts.signing import SigningKey

SHARE_KIND = "state-share"
MAX_HANDED_BYTES = 4096


class HandedBack(Struct, frozen=True, forbid_unknown_fields=True):
    """A share of the state's key, and the hash of the last receipt that its site has seen."""

    share: Annotated[bytes, Meta(min_length=SHARE_BYTES, max_length=SHARE_BYTES)]
    receipt: Hex32


def hand_back(told: HandedBack, *, manifest: str, site: str, receiver: str, signer: SigningKey) -> bytes:
    """At the site: seal a share to a split server (`receiver`, its HPKE key in hex) that the site has
    verified itself, for the run with this manifest hash."""
    sealed = BytesIO()
    seal(
        BytesIO(canonical(told)),
        sealed,
        binding=Binding(manifest, 0, SHARE_KIND, site),
        recipients={SERVER: receiver},
        signer=signer,
    )
    return sealed.getvalue()


def take_back(sealed: bytes, *, manifest: str, site: str, site_key: str, key: HpkeKey) -> HandedBack:
    """Inside the split server: what `site_key` (Ed25519, hex) has signed and sealed. Refuses with
    `sealing.*`."""
    plain = BytesIO()
    unseal(
        BytesIO(sealed),
        plain,
        binding=Binding(manifest, 0, SHARE_KIND, site),
        recipient=SERVER,
        key=key,
        sender_key=site_key,
        limit=MAX_HANDED_BYTES,
    )
    try:
        return msgspec.json.decode(plain.getvalue(), type=HandedBack)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal("sealing.refused") from error
