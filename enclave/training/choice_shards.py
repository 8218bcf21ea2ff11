"""What a site's shards of questions with choices must look like (choices.py says how a choice is coded).
Loaded by runs of Method 2 over datasets of the kind `prompt-choices` alone. Runs inside the split server, and
at the site."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from contracts.refusal import Refusal
from contracts.rows import MOST_CHOICES
from contracts.sealed.shards import PURPOSES, Purpose
from enclave.training.choices import are_whole, place_of
from enclave.training.data import IGNORED
from enclave.training.features import Layout, Shard


class ChoicesLayout(Layout):
    """Of shards whose examples are choices, where they are to be evaluated on."""

    def plain_labels(self, shard: Shard) -> Tensor:
        """With IGNORED in the place of codes.

        Returns: (tokens,) int32.
        """
        labels, starts = shard.labels.clone(), _starts(shard)
        labels[starts] = labels[starts].clamp(min=IGNORED)
        return labels

    def most_evaluated(self, training: int, rows: int) -> int:
        """Each choice of a row is an example."""
        return MOST_CHOICES * (rows - training)

    def rows_of(self, shards: Callable[[Purpose], Iterable[Shard]]) -> int:
        """How many rows these are: examples to train on, and questions, each with all of its choices.

        Raises: `features.labels` where they are not whole, or one to train on is a choice.
        """
        rows = 0
        for purpose in PURPOSES:
            targets = [
                target for shard in shards(purpose) for target in shard.labels[_starts(shard)].tolist()
            ]
            places = [place for target in targets if (place := place_of(target)) is not None]
            if len(places) != (0 if purpose == "training" else len(targets)) or not are_whole(places):
                raise Refusal("features.labels")
            rows += len({place.row for place in places}) if places else len(targets)
        return rows


def _starts(shard: Shard) -> Tensor:
    return shard.lengths.cumsum(0, dtype=torch.int64) - shard.lengths
