"""Rows in, padded batches out.

The rows come from the file that the site agent normalised: UTF-8 JSON Lines, each {"text", "label", "split"}.
Runs inside the enclave at the site; the file comes from the site's host, so it is read strictly and within
limits, once, and that very read is held against the digest and the number that the sites have signed. A fault
is told by its line number, never by its content.
"""

from __future__ import annotations

import hmac
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from contracts.dataset_digest import begin_digest
from contracts.manifest import DatasetRef, ModelSpec
from contracts.refusal import Refusal
from enclave.training.batches import by_length, shuffled

MAX_FILE_BYTES = 2 << 30
MAX_LINE_BYTES = 1 << 20
MAX_ROWS = 2_000_000
IGNORED = -100
"""The target of positions without loss (the convention of torch's cross_entropy and of transformers)."""


@dataclass(frozen=True)
class Row:
    """One text with its label."""

    text: str
    label: str


@dataclass(frozen=True)
class Rows:
    """A site's rows: what it trains with, and what it evaluates with."""

    train: list[Row]
    evaluation: list[Row]


@dataclass(frozen=True)
class Examples:
    """Tokenised rows. `targets` are label ids in the manifest's order; or, for a causal LM, each row's own
    tokens, with IGNORED in the place of those that it is given and does not learn."""

    tokens: list[list[int]]
    targets: list[int] | list[list[int]]
    padding: int

    def __len__(self) -> int:
        return len(self.tokens)

    def training_batches(self, batch_size: int, shuffle: random.Random) -> Iterator[Batch]:
        """One epoch in a shuffled order in which rows of similar length meet; `shuffle` alone decides it."""
        return (collate(self, rows) for rows in shuffled(self.lengths, batch_size, shuffle))

    def evaluation_batches(self, batch_size: int) -> Iterator[Batch]:
        """All rows once, by length."""
        return (collate(self, rows) for rows in by_length(self.lengths, batch_size))

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        return [len(tokens) for tokens in self.tokens]


@dataclass(frozen=True)
class Batch:
    """`input_ids` and `attention_mask` are (batch, tokens). `targets` is (batch,) label ids, or for a causal
    LM (batch, tokens): at each place the token that stands there, if it is learnt, else IGNORED, as at all
    padding. `rows` is the number of rows."""

    input_ids: Tensor
    attention_mask: Tensor
    targets: Tensor
    rows: int

    @property
    def inputs(self) -> dict[str, Tensor]:
        """What a whole model is called with."""
        return {"input_ids": self.input_ids, "attention_mask": self.attention_mask}


class _Line(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    text: str
    split: Literal["train", "validation", "test"]
    label: str = ""


_LINE = msgspec.json.Decoder(_Line)


@dataclass(frozen=True)
class Pin:
    """What the sites have signed about a site's rows, and the key of the digest, which is the site's."""

    dataset: DatasetRef
    key: bytes


def read_rows(file: Path, spec: ModelSpec, pin: Pin | None = None) -> Rows:
    """Read a normalised file. The evaluation rows are the test rows, or without any the validation rows.
    Inside an enclave of a run the rows must be those of a `pin`.

    Refuses with `rows.too_large`, `rows.invalid` or `rows.unknown_label` (with the line's number),
    `rows.wrong_count`, `rows.changed` and `rows.none`.
    """
    digest = begin_digest(b"" if pin is None else pin.key)
    if file.stat().st_size > MAX_FILE_BYTES:
        raise Refusal("rows.too_large", limit=MAX_FILE_BYTES, unit="bytes")
    known = spec.classes
    splits: dict[str, list[Row]] = {"train": [], "validation": [], "test": []}
    with file.open("rb") as lines:
        number = 0
        while line := lines.readline(MAX_LINE_BYTES + 1):
            number += 1
            digest.update(line)
            if number > MAX_ROWS:
                raise Refusal("rows.too_large", limit=MAX_ROWS, unit="rows")
            if len(line) > MAX_LINE_BYTES:
                raise Refusal("rows.invalid", line=number, fault="it is too long")
            try:
                row = _LINE.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise Refusal("rows.invalid", line=number, fault="not {text, label, split}") from error
            if spec.task == "sequence-classification" and row.label not in known:
                raise Refusal("rows.unknown_label", line=number)
            splits[row.split].append(Row(row.text, row.label))
    if pin is not None and number != pin.dataset.rows:
        raise Refusal("rows.wrong_count", found=number, rows=pin.dataset.rows)
    if pin is not None and not hmac.compare_digest(digest.hexdigest(), pin.dataset.digest):
        raise Refusal("rows.changed")
    rows = Rows(splits["train"], splits["test"] or splits["validation"])
    for purpose, found in (("train", rows.train), ("evaluate", rows.evaluation)):
        if not found:
            raise Refusal("rows.none", purpose=purpose)
    return rows


def encode(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, spec: ModelSpec) -> Examples:
    """Tokenise rows, cut at the manifest's `max_tokens`. A causal LM learns the text and where it ends, not
    the label; a text of one token teaches it nothing and does not count. Refuses with `rows.none`."""
    tokens: list[list[int]] = []
    for start in range(0, len(rows), 1000):
        texts = [row.text for row in rows[start : start + 1000]]
        tokens += tokenizer(texts, truncation=True, max_length=spec.max_tokens)["input_ids"]
    padding = tokenizer.pad_token_id
    if spec.task == "causal-lm":
        ended = [_ended(ids, tokenizer.eos_token_id, spec.max_tokens) for ids in tokens]
        learnt = [ids for ids in ended if len(ids) > 1]
        if not learnt:
            raise Refusal("rows.none", purpose="train or evaluate")
        return Examples(learnt, learnt, padding)
    for ids in tokens:
        if not ids:  # an empty text and a tokenizer without marks: one padding token keeps the row countable
            ids.append(padding)
    known = spec.classes
    return Examples(tokens, [known[row.label] for row in rows], padding)


def _ended(ids: list[int], end: int | None, most: int) -> list[int]:
    """With the token that ends a text, unless the text was cut or ends so already."""
    return ids if end is None or len(ids) >= most or ids[-1:] == [end] else [*ids, end]


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
    return Batch(input_ids, attention_mask, targets, len(indices))
