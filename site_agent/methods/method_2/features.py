"""This site's features: computed once by the public front, sealed in shards under keys that stay here.

`features/<origin>/` in the state folder holds one sealed file and one entry (with its key) a shard, and,
when all are there, `index.json`. A computation that was stopped goes on at the first missing shard. Nothing
here is bound to a run: one with the same origin (model, cut, tokenizer, labels, dataset) finds it done.

The front runs in this process, on a GPU where there is one. It is public and holds nothing but the site's own
text. What leaves is ciphertext; that a shard's length tells the sum of its texts' lengths is stated in
docs/threat-model.md.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from contracts.manifest import Manifest
from contracts.policy import Hex32
from contracts.refusal import Refusal
from contracts.sealed.shards import About, Purpose, ShardIndex, ShardRef, draw_key, seal_shard
from enclave_host.bounded import Limits
from site_agent.files import private_folder, replacing, write_private
from site_agent.words import readable_bytes

PURPOSES: tuple[Purpose, ...] = ("training", "evaluation")
BATCH = 32
KEEP_SECONDS = 7 * 86400
"""How long features stay after they were last asked for: a sweep's runs follow each other within that."""

Tell = Callable[..., None]
"""Called with (stage, fraction or None, detail)."""


class Entry(Struct, frozen=True, forbid_unknown_fields=True):
    """A shard that is done, and its key (hex): a secret of this site."""

    shard: ShardRef
    key: Hex32


class Kept(Struct, frozen=True, forbid_unknown_fields=True):
    """`index.json`: all shards of an origin, and their keys (hex)."""

    index: ShardIndex
    keys: Annotated[tuple[Hex32, ...], Meta(min_length=1)]


_ENTRY, _KEPT = msgspec.json.Decoder(Entry), msgspec.json.Decoder(Kept)


class FeatureStore:
    """The features of one site under one origin."""

    def __init__(self, features: Path, manifest: Manifest, site: str) -> None:
        # It brings torch, which the agent's own process needs for nothing but Method 2.
        from enclave.training.features import origin

        assert manifest.split is not None
        self._manifest = manifest
        self._site = site
        self._cut = manifest.split.cut
        digest = manifest.site(site).dataset.digest
        self.origin = origin(manifest.model, self._cut, digest)
        self.folder = features / self.origin

    def kept(self) -> Kept | None:
        """All shards, if all are done. Refuses with `agent.state_damaged`."""
        try:
            kept = _KEPT.decode((self.folder / "index.json").read_bytes())
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

    def make(self, model: Path, dataset: Path, tell: Tell) -> Kept:
        """Compute and seal what is missing. Tells first how many bytes an example will take.

        Refuses with `rows.*`, `model.*`, `split.*` or `features.*`, and with what `tell` raises.
        """
        from enclave.slicing.halves import open_front
        from enclave.training.data import encode, read_rows
        from enclave.training.features import estimate, layout_of, plan_shards

        spec = self._manifest.model
        tell("reading rows")
        rows = read_rows(dataset, spec)
        tell("loading the front")
        room = Limits.of_this_machine().memory  # a front that is larger is read again for each batch
        front, tokenizer = open_front(model, spec, self._cut, room=room, device=_device())
        digest = self._manifest.site(self._site).dataset.digest
        layout = layout_of(spec, front.config, self._cut, digest)
        examples = {
            "training": encode(rows.train, tokenizer, spec),
            "evaluation": encode(rows.evaluation, tokenizer, spec),
        }
        lengths = {purpose: [len(tokens) for tokens in examples[purpose].tokens] for purpose in PURPOSES}
        sizes = [estimate(lengths[purpose], layout) for purpose in PURPOSES]
        total, payload = sum(size.examples for size in sizes), sum(size.payload_bytes for size in sizes)
        words = f"{payload / total:,.0f} bytes an example, {readable_bytes(payload)} in all"
        tell("computing features", 0.0, words)
        private_folder(self.folder)
        entries, before = [], 0
        for purpose in PURPOSES:
            for number, which in enumerate(plan_shards(lengths[purpose], layout)):
                entry = self._entry(purpose, number, len(which))
                if entry is None:
                    progress = _progress(tell, before, total, words)
                    entry = self._compute(front, examples[purpose], which, purpose, number, layout, progress)
                entries.append(entry)
                before += len(which)
        index = ShardIndex(self._site, self.origin, tuple(entry.shard for entry in entries))
        kept = Kept(index, tuple(entry.key for entry in entries))
        write_private(self.folder / "index.json", msgspec.json.encode(kept))
        return kept

    def forget(self) -> None:
        """Remove all of it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _compute(
        self,
        front: Any,
        examples: Any,
        which: range,
        purpose: Purpose,
        number: int,
        layout: Any,
        progress: Callable[[int, int], None],
    ) -> Entry:
        from enclave.training.features import compute, to_bytes

        plain = to_bytes(compute(front, examples, which, BATCH, progress), layout)
        key = draw_key()
        with replacing(self._path(purpose, number, "sealed")) as file:
            about = About(self._site, self.origin, purpose, number)
            sealed = seal_shard(BytesIO(plain), file, key=key, about=about)
        entry = Entry(ShardRef(purpose, sealed.sha256, sealed.bytes, len(which)), key.hex())
        # The entry comes last: a shard with an entry is whole.
        write_private(self._path(purpose, number, "json"), msgspec.json.encode(entry))
        return entry

    def _entry(self, purpose: Purpose, number: int, examples: int) -> Entry | None:
        """A shard that was done before. One without its file, or of another size, is made again."""
        try:
            entry = _ENTRY.decode(self._path(purpose, number, "json").read_bytes())
            size = self._path(purpose, number, "sealed").stat().st_size
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        return entry if (entry.shard.examples, entry.shard.bytes) == (examples, size) else None

    def _path(self, purpose: Purpose, number: int, ending: str) -> Path:
        return self.folder / f"{purpose}-{number:05d}.{ending}"


def prune(features: Path, keep: str) -> None:
    """Remove what no run has asked for in KEEP_SECONDS, but for the origin `keep`."""
    for folder in features.glob("*"):
        index = folder / "index.json"
        newest = index.stat().st_mtime if index.exists() else folder.stat().st_mtime
        if folder.name != keep and time.time() - newest > KEEP_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _progress(tell: Tell, before: int, total: int, words: str) -> Callable[[int, int], None]:
    def progress(done: int, _of: int) -> None:
        tell("computing features", (before + done) / total, f"{before + done:,} of {total:,} rows, {words}")

    return progress
