"""Rows in, strictly, and as tokens.

The rows come from the file that the site agent normalised (contracts/rows.py). Runs inside the enclave at the
site; the file comes from the site's host, so it is read strictly and within limits, once, and that very read
is held against the kind, the digest and the number that the sites have signed. A fault is told by its line
number, never by its content.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from transformers import PreTrainedTokenizerBase

from contracts.dataset_digest import begin_digest
from contracts.kinds import Kind
from contracts.manifest import DatasetRef, ModelSpec
from contracts.refusal import Refusal
from contracts.rows import OF_KIND, PairLabel, Row, TextLabel, TextLabels, TokensTags, read_row
from enclave.training.data import Examples
from enclave.training.texts import tokenise

MAX_FILE_BYTES = 2 << 30
MAX_LINE_BYTES = 1 << 20
MAX_ROWS = 2_000_000


@dataclass(frozen=True)
class SiteRows:
    """A site's rows: what it trains with, what steers training, and what is opened once, at the end."""

    train: list[Row]
    validation: list[Row]
    test: list[Row]


@dataclass(frozen=True)
class Pin:
    """What the sites have signed about a site's rows, and the key of the digest, which is the site's."""

    dataset: DatasetRef
    key: bytes


def read_rows(file: Path, spec: ModelSpec, kind: Kind, pin: Pin | None = None) -> SiteRows:
    """Read a normalised file, all of one kind, with rows in each split. Inside an enclave of a run the rows
    must be those of a `pin`.

    Raises: `rows.too_large`, `rows.invalid`, `rows.other_kind` or `rows.unknown_label` (with the line's
    number), `rows.wrong_count`, `rows.changed` and `rows.none`.
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
            row = _read(line, number)
            if type(row) is not OF_KIND[kind]:
                raise Refusal("rows.other_kind", line=number, kind=kind)
            said = getattr(row, "labels", getattr(row, "tags", (getattr(row, "label", ""),)))
            if known and not known.keys() >= set(said):
                raise Refusal("rows.unknown_label", line=number)
            splits[row.split].append(row)
    if pin is not None and number != pin.dataset.rows:
        raise Refusal("rows.wrong_count", found=number, rows=pin.dataset.rows)
    if pin is not None and not hmac.compare_digest(digest.hexdigest(), pin.dataset.digest):
        raise Refusal("rows.changed")
    for split, found in splits.items():
        if not found:
            raise Refusal("rows.none", split=split)
    return SiteRows(splits["train"], splits["validation"], splits["test"])


def _read(line: bytes, number: int) -> Row:
    if len(line) > MAX_LINE_BYTES:
        raise Refusal("rows.invalid", line=number, fault="it is too long")
    try:
        return read_row(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal("rows.invalid", line=number, fault="it is a row of no kind") from error


def encode(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, spec: ModelSpec) -> Examples:
    """Tokenise rows, cut at the manifest's `max_tokens`.

    Raises: `rows.*` as enclave/training/answers.py what a causal LM is to learn.
    """
    if spec.task == "causal-lm":
        from enclave.training.answers import encode_answers  # Jinja: loaded by no other task

        return encode_answers(rows, tokenizer, spec)
    if rows and isinstance(rows[0], TextLabels | TokensTags):
        from enclave.training.coded import encode_coded

        return encode_coded(rows, tokenizer, spec)
    labelled = [row for row in rows if isinstance(row, TextLabel | PairLabel)]
    pairs = [row.text_pair for row in labelled if isinstance(row, PairLabel)]
    found = tokenise(tokenizer, [row.text for row in labelled], pairs or None, spec.max_tokens)
    known = spec.classes
    targets = [known[row.label] for row in labelled]
    return Examples(found.ids, targets, tokenizer.pad_token_id, found.segments, found.cut)
