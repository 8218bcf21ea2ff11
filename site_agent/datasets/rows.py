"""One record of a file becomes one row {text, label, split}, or a fault that says why not."""

from __future__ import annotations

import math
import unicodedata

import msgspec
from msgspec import Struct

from site_agent.datasets.columns import SPLITS, Columns
from site_agent.datasets.readers import Fault, Nested, Record, Value

MAX_TEXT = 200_000
MAX_TEXT_BYTES = 1_000_000
"""As JSON. The client slice reads no line of more than 1 MiB (enclave/training/data.py)."""

MAX_LABEL = 200


class Row(Struct, frozen=True):
    """A labelled text. `split` is None until one is assigned. This is a line of the normalised file."""

    text: str
    label: str
    split: str | None


class _Unusable(Exception):
    pass


def normalise(record: Record, columns: Columns, split: str | None) -> Row | Fault:
    """The row in `record`. The text stays as it is, to the character; labels lose blanks at their ends.

    `split` is that of the whole file (from its name), or None.
    """
    try:
        text = _text(record.values.get(columns.text))
        label = _label(record.values.get(columns.label))
        if columns.split is not None:
            split = SPLITS.get(str(record.values.get(columns.split)).strip().lower())
            if split is None:
                raise _Unusable("the split is none of train, validation, test")
        return Row(text, label, split)
    except _Unusable as reason:
        return Fault(record.line, str(reason))


def _text(value: Value | Nested) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise _Unusable("the text is missing")
    if not isinstance(value, str):
        raise _Unusable("the text is not text")
    if not value.strip():
        raise _Unusable("the text is empty")
    if len(value) > MAX_TEXT:
        raise _Unusable(f"the text is longer than {MAX_TEXT:,} characters")
    if len(msgspec.json.encode(_sound(value, "text"))) > MAX_TEXT_BYTES:
        raise _Unusable(f"the text is larger than {MAX_TEXT_BYTES:,} bytes")
    return value


def _label(value: Value | Nested) -> str:
    if value is None:
        raise _Unusable("the label is missing")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if math.isnan(value):
            raise _Unusable("the label is missing")
        # A spreadsheet or Parquet file with a gap in it turns the code 3 into 3.0.
        if not value.is_integer() or abs(value) > 2**53:
            raise _Unusable("the label is a number with decimals")
        value = int(value)
    if not isinstance(value, str | int):
        raise _Unusable("the label is not text")
    label = str(value).strip()
    if not label:
        raise _Unusable("the label is empty")
    if len(label) > MAX_LABEL:
        raise _Unusable(f"the label is longer than {MAX_LABEL} characters")
    return _sound(label, "label")


def _sound(value: str, what: str) -> str:
    """Bytes that are not valid in the file's encoding were read as lone surrogates."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise _Unusable(f"the {what} holds bytes that are not valid in the file's encoding") from None
    if "\x00" in value:
        raise _Unusable(f"the {what} holds a NUL character")
    hidden = next((character for character in value if not character.isprintable()), None)
    if what == "label" and hidden is not None:
        name = unicodedata.name(hidden, "a control character")
        raise _Unusable(f"the label holds U+{ord(hidden):04X} ({name}), which cannot be seen")
    return value
