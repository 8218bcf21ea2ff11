"""What both methods do with a public front at a hospital: run it over its rows, piece after piece.

The front runs in this process, on a GPU where there is one. It is public and holds nothing but the site's own
text. Pieces are planned from the rows' lengths alone, so a computation that was stopped goes on at the first
missing one. Features of no run are kept for a while: a sweep's runs have the same.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.manifest import Manifest
from contracts.sealed.shards import PURPOSES, Purpose
from site_agent.formatting import readable_bytes

BATCH = 32
KEEP_SECONDS = 7 * 86400
"""How long features stay after they were last asked for: a sweep's runs follow each other within that."""

Tell = Callable[..., None]
"""Called with (stage, fraction or None, detail)."""


@dataclass(frozen=True)
class FrontPiece:
    """Rows `which` of a purpose, the piece with this `number` of it; `before` counts the rows of all pieces
    that come earlier."""

    purpose: Purpose
    number: int
    which: range
    before: int


class FrontWork:
    """The front of a run, its first `cut` layers, over one site's rows."""

    def __init__(
        self, manifest: Manifest, site: str, cut: int, model: Path, dataset: Path, tell: Tell
    ) -> None:
        """Reads rows and model, and tells how many bytes an example will take.

        Raises: `rows.*`, `model.*`, `slicing.*` or `split.*`, and what `tell` raises.
        """
        # They bring torch, which the agent's own process needs for nothing but this.
        from enclave.slicing.halves import open_front
        from enclave.training.features import layout_of
        from enclave.training.row_reader import encode, read_rows
        from enclave_host.bounded import ChildLimits
        from site_agent.methods.shard_making import estimate

        spec = manifest.model
        tell("reading rows")
        approved = manifest.site(site).dataset
        rows = read_rows(dataset, spec, approved.kind)
        tell("loading the front")
        room = ChildLimits.of_this_machine().memory  # a front that is larger is read again for each batch
        self._front, tokenizer = open_front(model, spec, cut, room=room, device=_device())
        self.layout = layout_of(spec, self._front.config, cut, approved.digest, coded=manifest.coded)
        self._examples: dict[Purpose, Any] = {
            "training": encode(rows.train, tokenizer, spec),
            "validation": encode(rows.validation, tokenizer, spec),
            "test": encode(rows.test, tokenizer, spec),
        }
        self.cut = sum(examples.cut for examples in self._examples.values())
        self.left_out = sum(examples.left_out for examples in self._examples.values())
        sizes = [estimate(self._examples[purpose].lengths, self.layout) for purpose in PURPOSES]
        self._total = sum(size.examples for size in sizes)
        payload = sum(size.payload_bytes for size in sizes)
        self._tell = tell
        self._words = f"{payload / self._total:,.0f} bytes an example, {readable_bytes(payload)} in all"
        tell("computing features", 0.0, self._words)

    def pieces(self) -> Iterator[FrontPiece]:
        """All pieces, training first, each as large as a shard."""
        from site_agent.methods.shard_making import plan_shards

        before = 0
        for purpose in PURPOSES:
            for number, which in enumerate(plan_shards(self._examples[purpose].lengths, self.layout)):
                yield FrontPiece(purpose, number, which, before)
                before += len(which)

    def compute(self, piece: FrontPiece) -> Any:
        """The shard of a piece (enclave/training/features.py).

        Raises: `features.not_finite`, and what `tell` raises.
        """
        from site_agent.methods.shard_making import compute

        def progress(done: int, _of: int) -> None:
            reached = piece.before + done
            words = f"{reached:,} of {self._total:,} rows, {self._words}"
            self._tell("computing features", reached / self._total, words)

        return compute(self._front, self._examples[piece.purpose], piece.which, BATCH, progress)


def prune(features: Path, keep: Path) -> None:
    """Remove the folders that no run has asked for in KEEP_SECONDS, but for `keep`."""
    for folder in features.glob("*"):
        newest = max(file.stat().st_mtime for file in (folder, *folder.glob("*")))
        if folder != keep and time.time() - newest > KEEP_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
