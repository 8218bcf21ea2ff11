"""A batch in pieces: fewer rows go through the model at a time, and their gradients are added up.

A piece's loss is its mean over what it learns, times its share of what the batch learns; so the sum is the
batch's own mean, and a step learns what it would have learnt from the whole batch, but for the order in which
float32 numbers are added. A piece is padded to the longest of its own rows. Which rows make a piece follows
from the batch alone, so a slice makes its pads for the same shapes. Runs inside the enclaves, in training
alone, where a manifest asks for it or for packing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from contracts.manifest import Training
from enclave.training.data import IGNORED

if TYPE_CHECKING:
    from enclave.training.material import BatchLike, Pieces


@dataclass(frozen=True)
class Piece:
    """As `data.Batch`: `inputs` by name, (rows, tokens, …) as the batch has them; `targets` (rows, …)
    int64."""

    inputs: dict[str, Tensor]
    targets: Tensor
    rows: int


def arranged(batches: Iterable[BatchLike], training: Training) -> Iterator[Pieces]:
    """Each batch as the manifest has it go through the model."""
    if training.packing:
        from enclave.training.packing import packed

        batches = packed(batches, training.packing)
    return (apart(batch, training.at_once or len(batch.targets)) for batch in batches)


def apart(batch: BatchLike, most: int) -> Pieces:
    """Pieces of at most so many rows (or packed sequences), with their shares of the loss."""
    count = len(batch.targets)
    if count <= most:
        return [(batch, 1.0)]
    learnt = _learnt(batch.targets)
    cuts = [slice(start, min(start + most, count)) for start in range(0, count, most)]
    return [(_piece(batch, cut), float(learnt[cut].sum() / learnt.sum())) for cut in cuts]


def _learnt(targets: Tensor) -> Tensor:
    """How much each row has to learn: (rows,) int64. The first token of a text that is written is no
    target; of tags it may be."""
    if targets.dim() == 1:
        return targets.new_ones(len(targets))
    written = bool((targets >= 0).any())
    return (targets[:, int(written) :] != IGNORED).sum(1)


def _piece(batch: BatchLike, cut: slice) -> Piece:
    targets = batch.targets[cut]
    inputs = {name: value[cut] if value.dim() else value for name, value in batch.inputs.items()}
    rows = len(targets)
    if len(batch.targets) != batch.rows:  # packed: the rows are counted once
        rows = 0 if cut.start else batch.rows
    if "attention_mask" in inputs:
        longest = int(inputs["attention_mask"].sum(1).max())
        inputs = {name: value[:, :longest] for name, value in inputs.items()}
        targets = targets if targets.dim() == 1 else targets[:, :longest]
    return Piece(inputs, targets, rows)
