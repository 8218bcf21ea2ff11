"""Feature shards at rest, and their keys on the way: what a site uploads once, and what it wraps again.

A shard is encrypted in frames under a random key of its own, which the site keeps. The keys travel apart:
sealed to the attested split server, signed by the site's key, together with the site's *index*, which names
every shard by its SHA-256. After a restart of the server only the keys are sealed again.

A shard names no run, so runs that differ in nothing that decides features share it (its *origin*, see
enclave/training/features.py); the sealed keys are bound to one run. The site writes; the split server's TEE
reads, and believes nothing but what the site's key has signed.
"""

from __future__ import annotations

import secrets
from io import BytesIO
from typing import Annotated, BinaryIO, Literal

import msgspec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Meta, Struct

from contracts.canonical import canonical, digest
from contracts.manifest import Identifier
from contracts.policy import Hex32
from contracts.refusal import Refusal
from contracts.sealed.container import FileRef, reading, writing
from contracts.sealed.escrow import SHARE_BYTES
from contracts.sealed.hpke import HpkeKey
from contracts.sealed.stream import Binding, seal, unseal
from contracts.signing import SigningKey

MAGIC = b"fedslice-shard/1\n"
MAX_KEYS_BYTES = 16 << 20
KEY_BYTES = 32
SHARD_DOMAIN = b"fedslice/shard/v1"
KEYS_KIND = "shard-keys"
SERVER = "split_server"

Purpose = Literal["training", "validation", "test"]
PURPOSES: tuple[Purpose, ...] = ("training", "validation", "test")
"""In the order in which an index has them."""


class ShardOrigin(Struct, frozen=True, forbid_unknown_fields=True):
    """What a shard is: whose, of which origin, what for, and its place among those, from 0."""

    site: Identifier
    origin: Hex32
    purpose: Purpose
    number: Annotated[int, Meta(ge=0, lt=2**31)]


class ShardRef(Struct, frozen=True, forbid_unknown_fields=True):
    """One shard of an index: its file, the file's length in bytes, and how many examples it holds."""

    purpose: Purpose
    sha256: Hex32
    bytes: Annotated[int, Meta(ge=1, lt=2**53)]
    examples: Annotated[int, Meta(ge=1, lt=2**31)]


class ShardIndex(Struct, frozen=True, forbid_unknown_fields=True):
    """All shards of a site, in order. It holds no secret; its hash is what rosters and receipts name."""

    site: Identifier
    origin: Hex32
    shards: Annotated[tuple[ShardRef, ...], Meta(min_length=1, max_length=20_000)]

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical form, in hex."""
        return digest(self)

    def about(self, place: int) -> ShardOrigin:
        """What the shard at this place must say of itself."""
        purpose = self.shards[place].purpose
        number = sum(shard.purpose == purpose for shard in self.shards[:place])
        return ShardOrigin(self.site, self.origin, purpose, number)

    def examples(self, purpose: Purpose) -> int:
        """How many examples there are for a purpose."""
        return sum(shard.examples for shard in self.shards if shard.purpose == purpose)

    @property
    def bytes(self) -> int:
        """Length of all its files."""
        return sum(shard.bytes for shard in self.shards)


class SiteKeys(Struct, frozen=True, forbid_unknown_fields=True):
    """What a site seals to a split server: its index and the shards' keys in the same order; the hash of the
    last receipt that it has seen (NO_RECEIPT before the first). Where the server's TEE has no sealing key:
    the HPKE key (hex) for its shares of the server's state key, and the share that it hands back after a
    restart (contracts/sealed/shares.py)."""

    index: ShardIndex
    keys: tuple[Annotated[bytes, Meta(min_length=KEY_BYTES, max_length=KEY_BYTES)], ...]
    receipt: Hex32
    share_key: Annotated[str, Meta(max_length=4096)] | None = None
    share: Annotated[bytes, Meta(max_length=SHARE_BYTES)] | None = None


def draw_key() -> bytes:
    """A key for one shard."""
    return secrets.token_bytes(KEY_BYTES)


def seal_shard(source: BinaryIO, target: BinaryIO, *, key: bytes, about: ShardOrigin) -> FileRef:
    """Encrypt all of `source` into `target` at the site, in constant memory. `key` serves this shard only."""
    with writing(target, MAGIC, about) as container:
        container.frames(source, _derive(key, container.context))
        return container.ref


def open_shard(source: BinaryIO, target: BinaryIO, *, key: bytes, about: ShardOrigin, limit: int) -> None:
    """Decrypt `source` into `target` (seekable), inside the split server; it must be the shard that `about`
    says.

    That it is the file which the index names, the caller finds out in the same reading (`Mailbox.incoming`):
    hashing costs more than opening, so it is done once.

    Raises: `sealing.refused`, `sealing.not_sealed`, or `sealing.too_large` for beyond `limit` bytes;
    `target` is then cut back to where it was.
    """
    with reading(source, target, MAGIC, hashed=False) as container:
        if container.header != canonical(about):
            raise Refusal("sealing.refused")
        container.frames(target, _derive(key, container.context), limit)


def wrap_keys(
    index: ShardIndex,
    keys: list[bytes],
    target: BinaryIO,
    *,
    manifest: str,
    receiver: str,
    signer: SigningKey,
    receipt: str,
    share_key: str | None = None,
    share: bytes | None = None,
) -> FileRef:
    """At the site: seal index and keys to a split server (`receiver`, its HPKE key in hex) that the site has
    verified itself, for the run with this manifest hash, whose last receipt here has the hash `receipt`."""
    plain = BytesIO(canonical(SiteKeys(index, tuple(keys), receipt, share_key, share)))
    binding = Binding(manifest, 0, KEYS_KIND, index.site)
    return seal(plain, target, binding=binding, recipients={SERVER: receiver}, signer=signer)


def unwrap_keys(source: BinaryIO, *, manifest: str, site: str, site_key: str, key: HpkeKey) -> SiteKeys:
    """Inside the split server: what `site_key` (Ed25519, hex) has signed and sealed.

    Raises: `sealing.*` or `features.bad_index`.
    """
    plain = BytesIO()
    unseal(
        source,
        plain,
        binding=Binding(manifest, 0, KEYS_KIND, site),
        recipient=SERVER,
        key=key,
        sender_key=site_key,
        limit=MAX_KEYS_BYTES,
    )
    try:
        site_keys = msgspec.json.decode(plain.getvalue(), type=SiteKeys)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal("features.bad_index", site=site, fault=str(error)[:200]) from error
    check_index(site_keys.index, site)
    if len(site_keys.keys) != len(site_keys.index.shards):
        raise Refusal("features.bad_index", site=site, fault="there are not as many keys as shards")
    return site_keys


def check_index(index: ShardIndex, site: str) -> None:
    """Raises: `features.bad_index` for an index that is not this site's, repeats a shard (its examples
    would count twice), is not in order, or lacks a purpose.
    """
    purposes = [PURPOSES.index(shard.purpose) for shard in index.shards]
    faults = {
        "it is another site's": index.site != site,
        "a shard stands in it twice": len({shard.sha256 for shard in index.shards}) < len(purposes),
        "training, validation and test are not in this order": purposes != sorted(purposes),
        "it lacks training, validation or test": set(purposes) != set(range(len(PURPOSES))),
    }
    for fault, found in faults.items():
        if found:
            raise Refusal("features.bad_index", site=site, fault=fault)


def _derive(key: bytes, context: bytes) -> bytes:
    if len(key) != KEY_BYTES:
        raise Refusal("sealing.bad_key", kind="shard key")
    return HKDF(SHA256(), length=32, salt=None, info=SHARD_DOMAIN + b"\0" + context).derive(key)
