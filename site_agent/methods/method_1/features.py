"""This site's features behind a public front, as its client slice reads them: a file, in clear, as rows are.

`features/rows-<origin>/features.bf16` in the state folder, for all runs of one origin (model, cut,
tokenizer, labels, dataset); a run that uses it has a hard link to it, because a client slice takes no other
features in a later instance. While it is computed it is called `features.part`, and `progress.json` says
how far it is good; a computation that was stopped goes on there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec
from msgspec import Struct

from contracts.feature_origin import origin
from contracts.manifest import Manifest
from site_agent.files import private_folder, sync_folder, write_private
from site_agent.methods.fronts import FrontWork, Tell

FEATURES = "features.bf16"


class _Reached(Struct, frozen=True):
    pieces: int = 0
    bytes: int = 0


class RowFeatures:
    """The features of one site under one origin."""

    def __init__(self, features: Path, manifest: Manifest, site: str) -> None:
        assert manifest.front is not None
        self._manifest, self._site, self._cut = manifest, site, manifest.front.first
        made = origin(manifest.model, self._cut, manifest.site(site).dataset.digest)
        self.folder = features / f"rows-{made}"

    def link(self, target: Path, model: Path, dataset: Path, tell: Tell) -> None:
        """Let `target` be the features, unless it is there; computes what is missing.

        Raises: `rows.*`, `model.*`, `split.*` or `features.*`, and what `tell` raises.
        """
        if target.exists():
            return
        made = self.folder / FEATURES
        if not made.exists():
            self._make(model, dataset, tell)
        private_folder(target.parent)
        os.utime(made)  # asked for just now: see `prune`
        target.hardlink_to(made)

    def forget(self) -> None:
        """Remove all of it; links that runs have to it stay."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _make(self, model: Path, dataset: Path, tell: Tell) -> None:
        part, progress = private_folder(self.folder) / "features.part", self.folder / "progress.json"
        work = FrontWork(self._manifest, self._site, self._cut, model, dataset, tell)
        reached = _read(progress, part)
        with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b") as file:
            file.truncate(reached.bytes)
            file.seek(reached.bytes)
            for place, piece in enumerate(work.pieces()):
                if place < reached.pieces:
                    continue
                file.write(feature_bytes(work.compute(piece).features))
                file.flush()
                os.fsync(file.fileno())
                # It comes last: what it says is on the disk.
                write_private(progress, msgspec.json.encode(_Reached(place + 1, file.tell())))
        part.rename(self.folder / FEATURES)
        sync_folder(self.folder)


def _read(progress: Path, part: Path) -> _Reached:
    """How far an earlier computation came; a file that is shorter is begun again."""
    try:
        reached = msgspec.json.decode(progress.read_bytes(), type=_Reached)
        return reached if part.stat().st_size >= reached.bytes else _Reached()
    except (FileNotFoundError, msgspec.DecodeError):
        return _Reached()


def feature_bytes(features: object) -> memoryview:
    """(tokens, d_model) bf16 as they lie in memory, little-endian."""
    import torch

    assert isinstance(features, torch.Tensor)
    return features.contiguous().view(torch.int16).numpy().astype("<i2", copy=False).data.cast("B")
