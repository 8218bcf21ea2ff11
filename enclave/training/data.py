"""Tokenised rows as padded batches: what a model is called with, and what it is to say."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from enclave.training.batches import by_length, shuffled

IGNORED = -100
"""The target of positions without loss (the convention of torch's cross_entropy and of transformers)."""


@dataclass(frozen=True)
class Examples:
    """Tokenised rows. `targets` are label ids in the manifest's order, or where a row may have several labels
    the complement of their bits (several.py); or, for a causal LM, each row's own tokens, with IGNORED in the
    place of those that it is given and does not learn. `segments` say which of two texts a token is of, where
    rows are pairs and the model reads that."""

    tokens: list[list[int]]
    targets: list[int] | list[list[int]]
    padding: int
    segments: list[list[int]] | None = None
    cut: int = 0
    """Rows that were longer than the manifest's `max_tokens`."""
    left_out: int = 0
    """Rows in which a causal LM would learn no token: they are not among the others."""
    at_once: int = 0
    """Rows that are scored together at most, where the manifest says how many."""

    def __len__(self) -> int:
        return len(self.tokens)

    def training_batches(self, batch_size: int, shuffle: random.Random) -> Iterator[Batch]:
        """One epoch in a shuffled order in which rows of similar length meet; `shuffle` alone decides it."""
        return (collate(self, rows) for rows in shuffled(self.lengths, batch_size, shuffle))

    def evaluation_batches(self, batch_size: int) -> Iterator[Batch]:
        """All rows once, by length."""
        return (collate(self, rows) for rows in by_length(self.lengths, batch_size, self.at_once))

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        return [len(tokens) for tokens in self.tokens]


@dataclass(frozen=True)
class Batch:
    """`input_ids` and `attention_mask` are (batch, tokens). `targets` is (batch,) label ids, or for a causal
    LM (batch, tokens): at each place the token that stands there, if it is learnt, else IGNORED, as at all
    padding. `rows` is the number of rows; `token_type_ids` (batch, tokens) are the segments of pairs."""

    input_ids: Tensor
    attention_mask: Tensor
    targets: Tensor
    rows: int
    token_type_ids: Tensor | None = None

    @property
    def inputs(self) -> dict[str, Tensor]:
        """What a whole model is called with.

        Returns: names -> (batch, tokens) int64.
        """
        inputs = {"input_ids": self.input_ids, "attention_mask": self.attention_mask}
        if self.token_type_ids is not None:
            inputs["token_type_ids"] = self.token_type_ids
        return inputs


def collate(examples: Examples, indices: Sequence[int]) -> Batch:
    """Pad the chosen rows on the right to the longest of them."""
    length = max(len(examples.tokens[index]) for index in indices)
    input_ids = torch.full((len(indices), length), examples.padding)
    attention_mask = torch.zeros(len(indices), length, dtype=torch.long)
    for place, index in enumerate(indices):
        tokens = torch.tensor(examples.tokens[index])
        input_ids[place, : len(tokens)] = tokens
        attention_mask[place, : len(tokens)] = 1
    chosen = [examples.targets[index] for index in indices]
    learnt = [target for target in chosen if isinstance(target, list)]
    if learnt:
        targets = torch.tensor([row + [IGNORED] * (length - len(row)) for row in learnt])
    else:
        targets = torch.tensor(chosen)
    segments = None
    if examples.segments is not None:
        segments = torch.zeros(len(indices), length, dtype=torch.long)
        for place, index in enumerate(indices):
            segments[place, : len(examples.segments[index])] = torch.tensor(examples.segments[index])
    return Batch(input_ids, attention_mask, targets, len(indices), segments)
