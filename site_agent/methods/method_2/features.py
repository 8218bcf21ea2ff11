"""This site's features: computed once by the public front, sealed in shards under keys that stay here.

`features/<origin>/` in the state folder holds one sealed file and one entry (with its key) a shard, and,
when all are there, `index.json`. A computation that was stopped goes on at the first missing shard. Nothing
here is bound to a run: one with the same origin (model, cut, tokenizer, labels, dataset) finds it done.

What leaves is ciphertext; that a shard's length tells the sum of its texts' lengths is stated in
docs/threat-model.md.
"""

from __future__ import annotations

import os
import shutil
from io import BytesIO
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from contracts.feature_origin import origin
from contracts.manifest import Manifest
from contracts.policy import Hex32
from contracts.refusal import Refusal
from contracts.sealed.shards import Purpose, ShardIndex, ShardOrigin, ShardRef, draw_key, seal_shard
from site_agent.files import private_folder, replacing, write_private
from site_agent.methods.cuts import tell_of_cuts
from site_agent.methods.fronts import FrontPiece, FrontWork, Tell


class CachedShard(Struct, frozen=True, forbid_unknown_fields=True):
    """A shard that is done, and its key (hex): a secret of this site."""

    shard: ShardRef
    key: Hex32


class CachedIndex(Struct, frozen=True, forbid_unknown_fields=True):
    """`index.json`: all shards of an origin, and their keys (hex)."""

    index: ShardIndex
    keys: Annotated[tuple[Hex32, ...], Meta(min_length=1)]


_SHARD, _INDEX = msgspec.json.Decoder(CachedShard), msgspec.json.Decoder(CachedIndex)


class FeatureCache:
    """The features of one site under one origin."""

    def __init__(self, features: Path, manifest: Manifest, site: str) -> None:
        assert manifest.split is not None
        self._manifest = manifest
        self._site = site
        self._cut = manifest.split.cut
        digest = manifest.site(site).dataset.digest
        self.origin = origin(manifest.model, self._cut, digest)
        self.folder = features / self.origin

    def kept(self) -> CachedIndex | None:
        """All shards, if all are done.

        Raises: `agent.state_damaged`.
        """
        try:
            kept = _INDEX.decode((self.folder / "index.json").read_bytes())
            os.utime(self.folder / "index.json")
            return kept
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise Refusal("agent.state_damaged", file=f"features/{self.origin}/index.json") from error

    def file(self, place: int, index: ShardIndex) -> Path:
        """Where the sealed file of the shard at this place lies."""
        about = index.about(place)
        return self._path(about.purpose, about.number, "sealed")

    def make(self, model: Path, dataset: Path, tell: Tell) -> CachedIndex:
        """Compute and seal what is missing. Tells first how many bytes an example will take.

        Raises: `rows.*`, `model.*`, `split.*` or `features.*`, and what `tell` raises.
        """
        work = FrontWork(self._manifest, self._site, self._cut, model, dataset, tell)
        tell_of_cuts(work.cut, work.left_out, self._manifest)
        private_folder(self.folder)
        entries = [self._entry(piece) or self._compute(work, piece) for piece in work.pieces()]
        index = ShardIndex(self._site, self.origin, tuple(entry.shard for entry in entries))
        kept = CachedIndex(index, tuple(entry.key for entry in entries))
        write_private(self.folder / "index.json", msgspec.json.encode(kept))
        return kept

    def forget(self) -> None:
        """Remove all of it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _compute(self, work: FrontWork, piece: FrontPiece) -> CachedShard:
        from enclave.training.features import to_bytes

        plain, key = to_bytes(work.compute(piece), work.layout), draw_key()
        purpose, number = piece.purpose, piece.number
        with replacing(self._path(purpose, number, "sealed")) as file:
            about = ShardOrigin(self._site, self.origin, purpose, number)
            sealed = seal_shard(BytesIO(plain), file, key=key, about=about)
        entry = CachedShard(ShardRef(purpose, sealed.sha256, sealed.bytes, len(piece.which)), key.hex())
        # The entry comes last: a shard with an entry is whole.
        write_private(self._path(purpose, number, "json"), msgspec.json.encode(entry))
        return entry

    def _entry(self, piece: FrontPiece) -> CachedShard | None:
        """A shard that was done before. One without its file, or of another size, is made again."""
        try:
            entry = _SHARD.decode(self._path(piece.purpose, piece.number, "json").read_bytes())
            size = self._path(piece.purpose, piece.number, "sealed").stat().st_size
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        return entry if (entry.shard.examples, entry.shard.bytes) == (len(piece.which), size) else None

    def _path(self, purpose: Purpose, number: int, ending: str) -> Path:
        return self.folder / f"{purpose}-{number:05d}.{ending}"
