"""Shards of features as a site makes them: which rows go into which, how large they are, and what is in them
(enclave/training/features.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from contracts.refusal import Refusal
from enclave.slicing.split import Front
from enclave.training import features as packing
from enclave.training.data import Examples, collate
from enclave.training.features import Layout, Shard

BATCH_TOKENS = 2048
"""Tokens, with padding, that a front computes together at most: bounds the memory of it."""


@dataclass(frozen=True)
class Estimate:
    """What will be uploaded, known before anything is computed. Headers of shards are not counted."""

    examples: int
    shards: int
    payload_bytes: int


def plan_shards(lengths: Sequence[int], layout: Layout) -> list[range]:
    """Which examples go into which shard: in order, each shard as full as SHARD_BYTES allows. The same
    lengths give the same shards, so a computation that was stopped goes on at the first missing shard."""
    shards, start, size = [], 0, 0
    for index, length in enumerate(lengths):
        more = layout.bytes_of(length)
        if size and size + more > packing.SHARD_BYTES:
            shards.append(range(start, index))
            start, size = index, 0
        size += more
    return [*shards, range(start, len(lengths))] if lengths else []


def estimate(lengths: Sequence[int], layout: Layout) -> Estimate:
    """From the lengths of the tokenised examples alone."""
    total = sum(layout.bytes_of(length) for length in lengths)
    return Estimate(len(lengths), len(plan_shards(lengths, layout)), total)


def compute(
    front: Front,
    examples: Examples,
    which: range,
    batch_size: int,
    progress: Callable[[int, int], None] | None = None,
) -> Shard:
    """Run the front over some examples, by length, and pack what it gives in their own order. As many go
    together as `batch_size` and BATCH_TOKENS allow, one at least.

    `progress(done, of)` counts examples. Runs at the site, on the device where the front is.

    Raises: `features.not_finite`.
    """
    device = front.device
    order = sorted(which, key=lambda index: len(examples.tokens[index]))
    found: dict[int, Tensor] = {}
    while len(found) < len(order):
        indices = order[len(found) : len(found) + batch_size]
        indices = indices[: max(1, BATCH_TOKENS // len(examples.tokens[indices[-1]]))]
        batch = collate(examples, indices)
        given = {name: value.to(device) for name, value in batch.inputs.items()}
        features = front(**given).to(torch.bfloat16).cpu()
        for place, index in enumerate(indices):
            found[index] = features[place, : len(examples.tokens[index])].clone()
        if progress is not None:
            progress(len(found), len(order))
    packed = torch.cat([found[index] for index in which])
    if not torch.isfinite(packed).all():
        raise Refusal("features.not_finite")
    lengths = torch.tensor([len(examples.tokens[index]) for index in which], dtype=torch.int32)
    targets = [examples.targets[index] for index in which]
    labels = [t for target in targets for t in (target if isinstance(target, list) else [target])]
    return Shard(packed, lengths, torch.tensor(labels, dtype=torch.int32))
