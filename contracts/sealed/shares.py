"""Threshold shares of a state key, for a TEE without a sealing key (TDX): docs/decisions/0012.

The enclave draws the key that its state is sealed under and gives each site one share of it (Shamir, 1979, in
GF(2^128), by pycryptodome; the two halves of the key are shared apart). Any `threshold` shares make the key
again, fewer tell nothing about it. Sites hand theirs back only to a freshly attested enclave of the same
measurement and manifest. Splitting and combining run inside the enclave.

The shares lie in the clear part of the sealed state itself, each wrapped by HPKE for one site (`Escrow`).
What a site keeps is the key to unwrap its own: nothing is handed out that it could lose between two rounds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice

from Crypto.Protocol.SecretSharing import Shamir

from contracts.canonical import canonical
from contracts.manifest import Manifest
from contracts.refusal import Refusal
from contracts.sealed.escrow import KEY_BYTES, MAX_SHARES, SHARE_BYTES, Escrow
from contracts.sealed.hpke import HpkeKey, wrap

MAX_TRIES = 2000
SHARE_DOMAIN = b"fedslice/state-share/v1"
COMMITMENT_DOMAIN = b"fedslice/state-key/v1\0"


@dataclass(frozen=True)
class Shared:
    """A key in shares: one for each site (`SHARE_BYTES` bytes, secret), and the public commitment to it (32
    bytes, hex), by which wrong shares are told from right ones."""

    shares: dict[str, bytes]
    commitment: str


def threshold_in(manifest: Manifest) -> int:
    """How many shares make the key of this run's state.

    Raises: `state.no_shares` where the manifest lets nobody hold any.
    """
    if manifest.split is None or manifest.split.shares is None:
        raise Refusal("state.no_shares")
    return manifest.split.shares.threshold


def require_of(escrow: Escrow, manifest: Manifest, holders: int) -> None:
    """That an escrow is as the manifest says: its threshold, held by members alone, at least `holders` of
    them.

    Raises: `state.no_shares` or `shares.other_escrow`.
    """
    members = {site.id for site in manifest.sites}
    fits = {
        "threshold": escrow.threshold == threshold_in(manifest),
        "holders": members.issuperset(escrow.shares) and len(escrow.shares) >= holders,
    }
    for field, right in fits.items():
        if not right:
            raise Refusal("shares.other_escrow", field=field)


def commitment_of(key: bytes) -> str:
    """SHA-256 under a domain: tells nobody anything of a key that was drawn at random."""
    return hashlib.sha256(COMMITMENT_DOMAIN + key).hexdigest()


def split(key: bytes, sites: Sequence[str], threshold: int) -> Shared:
    """Share a random key (32 bytes) among `sites`, of whom any `threshold` can make it again.

    Raises: `sealing.bad_key` or `shares.bad_threshold`.
    """
    if len(key) != KEY_BYTES:
        raise Refusal("sealing.bad_key", kind="state key")
    if not 1 <= threshold <= len(sites) <= MAX_SHARES or len(set(sites)) < len(sites):
        raise Refusal("shares.bad_threshold", threshold=threshold, sites=len(sites))
    half = KEY_BYTES // 2
    first = Shamir.split(threshold, len(sites), key[:half])
    second = Shamir.split(threshold, len(sites), key[half:])
    shares = {
        site: index.to_bytes(2, "big") + one + other
        for site, (index, one), (_, other) in zip(sites, first, second, strict=True)
    }
    return Shared(shares, commitment_of(key))


def combine(shares: Mapping[str, bytes], threshold: int, commitment: str) -> bytes:
    """The key, from the shares that came back, whoever sent a wrong one: other sets of `threshold` of them
    are tried (at most `MAX_TRIES`) until one fits the commitment.

    Raises: `shares.too_few` (ask more sites) or `shares.none_fit`.
    """
    usable = [share for _, share in sorted(shares.items()) if len(share) == SHARE_BYTES]
    if len(usable) < threshold:
        raise Refusal("shares.too_few", held=len(usable), threshold=threshold)
    for chosen in islice(combinations(usable, threshold), MAX_TRIES):
        key = _combine(chosen)
        if key is not None and commitment_of(key) == commitment:
            return key
    raise Refusal("shares.none_fit", held=len(usable), threshold=threshold)


def _combine(chosen: Sequence[bytes]) -> bytes | None:
    half = KEY_BYTES // 2
    indices = [int.from_bytes(share[:2], "big") for share in chosen]
    if 0 in indices or len(set(indices)) < len(indices):
        return None
    halves = (
        Shamir.combine(
            [(index, share[start : start + half]) for index, share in zip(indices, chosen, strict=True)]
        )
        for start in (2, 2 + half)
    )
    return b"".join(halves)


def deposit(key: bytes, receivers: Mapping[str, str], threshold: int, manifest: str) -> Escrow:
    """Inside the enclave: share `key` among `receivers` (site -> its HPKE public key in hex), for the run
    with this manifest hash.

    Raises: as `split` and `wrap` do.
    """
    shared = split(key, sorted(receivers), threshold)
    wrapped = {
        site: wrap(receivers[site], share, _info(manifest, site, shared.commitment))
        for site, share in shared.shares.items()
    }
    return Escrow(threshold, shared.commitment, wrapped)


def withdraw(escrow: Escrow, site: str, key: HpkeKey, manifest: str) -> bytes:
    """At the site: its own share. Whoever calls this has verified the enclave that the share goes to, and
    that the escrow is the manifest's (`require_of`).

    Raises: `shares.not_ours` or `sealing.refused`.
    """
    if site not in escrow.shares:
        raise Refusal("shares.not_ours")
    return key.unwrap(escrow.shares[site], _info(manifest, site, escrow.commitment))


def _info(manifest: str, site: str, commitment: str) -> bytes:
    return SHARE_DOMAIN + b"\0" + canonical({"commitment": commitment, "manifest": manifest, "site": site})
