"""What a split server learns with: the tail of the pinned base model, and how it is trained in a round.

Runs inside the split server's TEE. Every round starts from parameters that `start_from` has set, with a fresh
optimizer, so a round that was cut off leaves nothing behind and can be done again to the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from contracts.architecture.spf_size import SpfSize, size_of
from contracts.manifest import Manifest, Spf, Split
from contracts.refusal import Refusal
from enclave.programs.program import Report
from enclave.programs.throttle import throttle
from enclave.slicing.adapters import load_tuned_state, tuned_state
from enclave.slicing.halves import open_tail
from enclave.slicing.spf import selected_rows, tune
from enclave.slicing.split import Tail
from enclave.training.features import FeatureSet, Layout, Shard, layout_of
from enclave.training.loop import TrainOutcome, evaluate, train
from enclave.training.metrics import Scores
from enclave.training.tensors import State

POOLED = "pooled"
"""In place of a site's id where batches of all sites are mixed; no site id has such a seed by chance alone,
and one that does harms nobody."""


@dataclass(frozen=True)
class TailLearner:
    """A tail with SPF for the life of a run. `config` is the whole base model's; `size` is what is tuned;
    `feature_bound` bounds the features that are taken."""

    manifest: Manifest
    tail: Tail
    initial: State
    config: Any
    size: SpfSize
    feature_bound: float

    @property
    def split(self) -> Split:
        assert self.manifest.split is not None
        return self.manifest.split

    def layout(self, site: str) -> Layout:
        """What a site's shards must look like."""
        digest = self.manifest.site(site).dataset.digest
        coded = self.manifest.coded
        layout = layout_of(self.manifest.model, self.config, self.split.cut, digest, coded=coded)
        return replace(layout, feature_bound=self.feature_bound)

    def feature_set(self, shards: list[Shard]) -> FeatureSet:
        """Shards of any sites, put together: their layouts differ in nothing but the origin."""
        return FeatureSet(shards, self.layout(self.manifest.sites[0].id), self.manifest.training.at_once or 0)

    def start_from(self, state: State | None) -> None:
        """Set the tuned parameters; None means those of the manifest's seed.

        Raises: `tensors.*`.
        """
        load_tuned_state(self.tail, self.initial if state is None else state)

    def evaluate(self, shards: list[Shard], report: Report, *, tables: bool = False) -> Scores:
        """Score the present parameters; with `tables`, for these too."""
        labels, precision = len(self.manifest.model.labels), self.manifest.training.precision
        how: dict[str, Any] = {"labels": labels, "precision": precision, "progress": throttle(report)}
        if tables or self.manifest.coded:
            from enclave.training.coded import evaluate_finely

            return evaluate_finely(self.tail, self.feature_set(shards), self.manifest, tables, **how)
        return evaluate(self.tail, self.feature_set(shards), **how)

    def train(
        self, round: int, shards: Mapping[str, list[Shard]], report: Report
    ) -> tuple[TrainOutcome, State]:
        """Train one round on the sites' training shards (by site id, in their order), from the present
        parameters. Pooled, or one tail a site and the mean of them."""
        if self.split.batches == POOLED:
            return self.train_on(round, POOLED, [shard for own in shards.values() for shard in own], report)
        from enclave.programs.tails_apart import train_apart

        return train_apart(self, round, shards, report)

    def packed(self, receipt: str, state: State) -> bytes:
        """The package that is released of these parameters (enclave/slicing/released.py)."""
        from enclave.slicing.released import pack
        from enclave.slicing.released_rows import row_files

        rows = {name: chosen.cpu().numpy() for name, chosen in selected_rows(self.tail).items()}
        return pack(self.manifest, receipt, row_files(state, self.initial, rows))

    def train_on(
        self, round: int, site: str, shards: list[Shard], report: Report
    ) -> tuple[TrainOutcome, State]:
        """Train on one site's shards, or on all sites' together."""
        settings, rows = self.manifest.training, self.feature_set(shards)
        result = train(self.tail, rows, settings, round=round, site=site, progress=throttle(report))
        return result, tuned_state(self.tail)


def load_tail(manifest: Manifest, folder: Path, mailbox_folder: Path | None = None) -> TailLearner:
    """Read the base model (every file against its pinned hash), cut it, tune the tail as the manifest says,
    on the accelerator inside the TEE where there is one. In the mailbox's folder lies what tuning starts
    from.

    Raises: `model.*`, `slicing.*`, `split.*`, `spf.*` or `start.*`; `manifest.invalid`.
    """
    adapter, split = manifest.adapter, manifest.split
    if not isinstance(adapter, Spf) or split is None:
        raise Refusal("manifest.invalid", fault="a split server has no part in method-1")
    opened = open_tail(folder, manifest.model, split.cut)
    config, tail = opened.config, opened.tail
    tune(tail, adapter, manifest.training.seed)
    if manifest.model.start:
        from enclave.slicing.start import begin_tail_with_release

        begin_tail_with_release(tail, manifest.model, mailbox_folder)
    if split.checkpointing:
        from enclave.slicing.checkpointed import compute_again

        compute_again(tail)
    tail.to("cuda" if torch.cuda.is_available() else "cpu")
    tags = manifest.model.task == "token-classification"
    size = size_of(config, adapter, split.cut, len(manifest.model.labels), tags=tags)
    return TailLearner(manifest, tail.eval(), tuned_state(tail), config, size, opened.feature_bound)
