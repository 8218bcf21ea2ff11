"""What a site tells a server enclave that serves a trained model or releases its parameters.

A restored state may be an old one, or, under a key in shares, one that the host has made up. So each site
names the last receipt of the run that it has seen, sealed to the enclave that it has verified, together with
its share of the state's key where there is one. The enclave does nothing with a state whose receipt too few
sites have named. In training the same travels with the keys of features (contracts/sealed/shards.py).
"""

from __future__ import annotations

from io import BytesIO
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from contracts.canonical import canonical
from contracts.policy import Hex32
from contracts.refusal import Refusal
from contracts.sealed.escrow import SHARE_BYTES
from contracts.sealed.hpke import HpkeKey
from contracts.sealed.shards import SERVER
from contracts.sealed.stream import Binding, seal, unseal
from contracts.signing import SigningKey

SHARE_KIND = "state-share"
MAX_HANDED_BYTES = 4096
MOST_NAMED = 16
"""To so many enclaves a site names the receipt of a run that is over, where the manifest bounds the answers
of each: a host that began with a new one as often as it likes would have as many answers as it likes."""


class HandedBack(Struct, frozen=True, forbid_unknown_fields=True):
    """The hash of the last receipt that the site has seen (NO_RECEIPT before the first), and its share of the
    state's key where the sites hold shares."""

    receipt: Hex32
    share: Annotated[bytes, Meta(min_length=SHARE_BYTES, max_length=SHARE_BYTES)] | None = None


def hand_back(handed: HandedBack, *, manifest: str, site: str, receiver: str, signer: SigningKey) -> bytes:
    """At the site: seal it to a split server (`receiver`, its HPKE key in hex) that the site has
    verified itself, for the run with this manifest hash."""
    sealed = BytesIO()
    seal(
        BytesIO(canonical(handed)),
        sealed,
        binding=Binding(manifest, 0, SHARE_KIND, site),
        recipients={SERVER: receiver},
        signer=signer,
    )
    return sealed.getvalue()


def take_back(sealed: bytes, *, manifest: str, site: str, site_key: str, key: HpkeKey) -> HandedBack:
    """Inside the split server: what `site_key` (Ed25519, hex) has signed and sealed.

    Raises: `sealing.*`.
    """
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
