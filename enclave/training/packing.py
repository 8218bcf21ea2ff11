"""Several short rows in one sequence: what a causal LM learns is the same, and less of a batch is padding.

A batch holds the same rows as ever, one after the other in few sequences of about one length. Each row begins
at position 0 again, by which the model's own code keeps their attention apart (it masks across every
place where positions do not go on by one); the rest of a sequence is filled by places that begin again as
well. The first token of a row is no target: what stands before it is another row. Which rows meet follows
from their lengths alone, so a slice makes its pads for the same shapes. Runs inside the enclaves, in training
alone, where a manifest asks for it.

Source: packing without cross-contamination: Krell et al., arXiv 2107.02027.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from enclave.training.data import IGNORED

if TYPE_CHECKING:
    from enclave.training.material import BatchLike


@dataclass(frozen=True)
class PackedBatch:
    """As `data.Batch`, of sequences: `inputs` are `input_ids` (sequences, tokens) int64 or `features`
    (sequences, tokens, d_model) float32, `position_ids` (sequences, tokens) int64 and `use_cache` () bool;
    `targets` (sequences, tokens) int64; `rows` is the number of rows in it."""

    inputs: dict[str, Tensor]
    targets: Tensor
    rows: int


def packed(batches: Iterable[BatchLike], tokens: int) -> Iterator[PackedBatch]:
    """Each batch in sequences of at most so many tokens."""
    return (_packed(batch, tokens) for batch in batches)


def _packed(batch: BatchLike, tokens: int) -> PackedBatch:
    given = dict(batch.inputs)
    lengths = given.pop("attention_mask").sum(1).tolist()
    bins = fit(lengths, tokens)
    longest = max(sum(lengths[row] for row in rows) for rows in bins)
    positions = torch.zeros(len(bins), longest, dtype=torch.long)
    targets = torch.full((len(bins), longest), IGNORED)
    inputs = {name: part.new_zeros(len(bins), longest, *part.shape[2:]) for name, part in given.items()}
    for place, rows in enumerate(bins):
        start = 0
        for row in rows:
            stop = start + lengths[row]
            for name, part in given.items():
                inputs[name][place, start:stop] = part[row, : lengths[row]]
            targets[place, start + 1 : stop] = batch.targets[row, 1 : lengths[row]]
            positions[place, start:stop] = torch.arange(stop - start)
            start = stop
        positions[place, start:] = torch.arange(longest - start)
    if "input_ids" in given:  # with a cache a model looks for no second beginning; a tail has none anyhow
        inputs["use_cache"] = torch.tensor(False)
    return PackedBatch({**inputs, "position_ids": positions}, targets, batch.rows)


def fit(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Rows, by number, in the fewest sequences of at most so many tokens that are found, all about as long:
    the longest row first, each into the shortest sequence so far.

    Source: the rule and its bound: Graham, SIAM J. Appl. Math. 17 (1969).
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    most = max(tokens, max(lengths))
    for count in range(max(1, -(-sum(lengths) // most)), len(lengths) + 1):
        bins: list[list[int]] = [[] for _ in range(count)]
        filled = [0] * count
        for row in order:
            place = filled.index(min(filled))
            bins[place].append(row)
            filled[place] += lengths[row]
        if max(filled) <= most:
            break
    return bins
