"""One record of a file becomes one row of the dataset's kind (contracts/rows.py), or a fault that says why
not."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from contracts.entities import types_of
from contracts.kinds import Kind
from contracts.row_writing import write_row
from contracts.rows import (
    Messages,
    PairLabel,
    PromptChoices,
    PromptResponse,
    Row,
    Split,
    TextLabel,
    TextLabels,
    TokensTags,
    WholeText,
)
from site_agent.datasets.columns import SPLITS, Columns
from site_agent.datasets.conversations import answer, chosen, messages, question
from site_agent.datasets.readers import Fault, Record
from site_agent.datasets.several import labels_in
from site_agent.datasets.tags import items, tagged
from site_agent.datasets.unusable import Unusable, sound, text

MAX_ROW_BYTES = 1_000_000
"""As JSON. The client slice reads no line of more than 1 MiB (enclave/training/data.py)."""

MAX_LABEL = 200
UNSPLIT: Split = "train"
"""Stands in a row until its split is known."""


@dataclass(frozen=True)
class Found:
    """A row, and its split where the file says one."""

    row: Row
    split: Split | None


def normalise(record: Record, columns: Columns, split: Split | None) -> Found | Fault:
    """The row in `record`. Texts stay as they are, to the character; labels lose blanks at their ends.

    `split` is that of the whole file (from its name), or None.
    """
    try:
        if columns.kind is None:
            raise Unusable("its kind is not known")
        row = _OF_KIND[columns.kind](record.values, columns)
        if len(write_row(row)) > MAX_ROW_BYTES:
            raise Unusable(f"it is larger than {MAX_ROW_BYTES:,} bytes")
        if columns.split is not None:
            split = SPLITS.get(str(record.values.get(columns.split)).strip().lower())
            if split is None:
                raise Unusable("the split is none of train, validation, test")
        return Found(row, split)
    except Unusable as reason:
        return Fault(record.line, str(reason))


def label_of(row: Row) -> str:
    """A row's class, or all of its labels, or types of entities, a line each; empty where its kind has none,
    or the row."""
    if isinstance(row, TextLabels):
        return "\n".join(row.labels)
    if isinstance(row, TokensTags):
        return "\n".join(types_of(row.tags))
    return row.label if isinstance(row, TextLabel | PairLabel) else ""


def each(label: str) -> list[str]:
    """What `label_of` has put together."""
    return label.split("\n") if label else []


def renamed(row: Row, names: Mapping[str, str]) -> Row:
    """With other names of its class, labels or types of entities."""
    if isinstance(row, TokensTags):
        tags = tuple(tag[:2] + names.get(tag[2:], tag[2:]) for tag in row.tags)
        return msgspec.structs.replace(row, tags=tags)
    return with_label(row, "\n".join(names.get(one, one) for one in each(label_of(row))), row.split)


def with_label(row: Row, label: str, split: Split) -> Row:
    """The row with another class, or other labels, as `label_of` says them."""
    if isinstance(row, TextLabels):
        return msgspec.structs.replace(row, labels=tuple(sorted(set(each(label)))), split=split)
    named = {"label": label} if isinstance(row, TextLabel | PairLabel) else {}
    return msgspec.structs.replace(row, split=split, **named)


def given(row: Row) -> str:
    """What a model reads of a row; two rows that agree in it are one case."""
    match row:
        case TextLabel() | TextLabels() | WholeText():
            return row.text
        case PairLabel():
            return msgspec.json.encode((row.text, row.text_pair)).decode()
        case TokensTags():
            return msgspec.json.encode(row.tokens).decode()
        case PromptResponse():
            return row.prompt
        case Messages():
            last = max(place for place, turn in enumerate(row.messages) if turn.role == "assistant")
            return msgspec.json.encode(row.messages[:last]).decode()


def texts(row: Row) -> tuple[str, ...]:
    """All texts of a row, each for itself."""
    match row:
        case TextLabel() | TextLabels() | WholeText():
            return (row.text,)
        case PairLabel():
            return (row.text, row.text_pair)
        case TokensTags():
            return (" ".join(row.tokens),)
        case PromptChoices():
            return (row.prompt, *row.choices)
        case PromptResponse():
            return (row.prompt, row.response)
        case Messages():
            return tuple(turn.content for turn in row.messages)


def answers(row: Row) -> tuple[str, ...]:
    """What a language model is to say of a row."""
    if isinstance(row, PromptResponse):
        return (row.response,)
    if isinstance(row, Messages):
        return tuple(turn.content for turn in row.messages if turn.role == "assistant")
    return ()


def _text_label(values: dict[str, Any], columns: Columns) -> Row:
    return TextLabel(text(values.get(columns.the("text")), "text"), _label(values, columns), UNSPLIT)


def _pair_label(values: dict[str, Any], columns: Columns) -> Row:
    first = text(values.get(columns.the("text")), "text")
    second = text(values.get(columns.the("pair")), "second text")
    return PairLabel(first, second, _label(values, columns), UNSPLIT)


def _text_labels(values: dict[str, Any], columns: Columns) -> Row:
    found = labels_in(values, columns.labels, columns.separator)
    labels = sorted({as_label(value) for value in found})
    return TextLabels(text(values.get(columns.the("text")), "text"), tuple(labels), UNSPLIT)


def _tokens_tags(values: dict[str, Any], columns: Columns) -> Row:
    tokens, tags = (items(values.get(columns.the(role)), role) for role in ("tokens", "tags"))
    return TokensTags(*tagged(tokens, tags), UNSPLIT)


def _prompt_response(values: dict[str, Any], columns: Columns) -> Row:
    return PromptResponse(question(values, columns), answer(values, columns), UNSPLIT)


def _prompt_choices(values: dict[str, Any], columns: Columns) -> Row:
    return chosen(values, columns, UNSPLIT)


def _messages(values: dict[str, Any], columns: Columns) -> Row:
    return Messages(messages(values.get(columns.the("messages"))), UNSPLIT)


def _text(values: dict[str, Any], columns: Columns) -> Row:
    return WholeText(text(values.get(columns.the("text")), "text"), UNSPLIT)


_OF_KIND: dict[Kind, Callable[[dict[str, Any], Columns], Row]] = {
    "text-label": _text_label,
    "pair-label": _pair_label,
    "text-labels": _text_labels,
    "token-tags": _tokens_tags,
    "prompt-response": _prompt_response,
    "prompt-choices": _prompt_choices,
    "messages": _messages,
    "text": _text,
}


def _label(values: dict[str, Any], columns: Columns) -> str:
    return as_label(values.get(columns.the("label")))


def as_label(value: Any) -> str:
    """A label as it is kept. Raises Unusable."""
    if value is None:
        raise Unusable("the label is missing")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if math.isnan(value):
            raise Unusable("the label is missing")
        # A spreadsheet or Parquet file with a gap in it turns the code 3 into 3.0.
        if not value.is_integer() or abs(value) > 2**53:
            raise Unusable("the label is a number with decimals")
        value = int(value)
    if not isinstance(value, str | int):
        raise Unusable("the label is not text")
    label = str(value).strip()
    if not label:
        raise Unusable("the label is empty")
    if len(label) > MAX_LABEL:
        raise Unusable(f"the label is longer than {MAX_LABEL} characters")
    sound(label, "label")
    hidden = next((character for character in label if not character.isprintable()), None)
    if hidden is not None:
        name = unicodedata.name(hidden, "a control character")
        raise Unusable(f"the label holds U+{ord(hidden):04X} ({name}), which cannot be seen")
    return label
