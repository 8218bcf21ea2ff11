"""Any number of labels for one text: in which columns they stand, how they are parted, and what a row has.

Files have them in three ways: a column of lists (JSON, Parquet), a column of texts with a sign between the
labels ("I10;E11"), or a column of 0 and 1 for each label, whose name is the label.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from contracts.refusal import Refusal
from site_agent.datasets.names import LABELS_NAMES, by_name
from site_agent.datasets.readers import Nested, Record
from site_agent.datasets.unusable import Unusable
from site_agent.formatting import printable

SEPARATORS = ("|", ";", ",")
"""What parts labels, the surest first: a comma may stand in a label."""
_FLAGS = {"0": False, "1": True, "false": False, "true": True, "0.0": False, "1.0": True}


def several(sample: Sequence[Record], names: Sequence[str]) -> tuple[str, ...]:
    """The columns that hold any number of labels, by name or by what stands in them: one, or two and more of
    0 and 1. None where there are none."""
    name = by_name(LABELS_NAMES, names)
    if name is not None and _holds_several(sample, name):
        return (name,)
    flags = tuple(name for name in names if _is_flag(sample, name))
    return flags if len(flags) > 1 else ()


def separator_of(sample: Sequence[Record], name: str) -> str | None:
    """What parts the labels in a column of texts; None where it holds lists.

    Raises: `dataset.which_separator` where none of the usual signs is in it.
    """
    values = [record.values.get(name) for record in sample]
    if any(isinstance(value, Nested) for value in values):
        return None
    said = "".join(value for value in values if isinstance(value, str))
    found = next((sign for sign in SEPARATORS if sign in said), None)
    if found is None:
        raise Refusal("dataset.which_separator", column=printable(name, 64))
    return found


def labels_in(values: dict[str, Any], columns: Sequence[str], separator: str | None) -> list[Any]:
    """What a row has, as it stands there. Raises Unusable."""
    if len(columns) > 1:
        return [name for name in columns if _flag(values.get(name), name)]
    value = values.get(columns[0])
    if isinstance(value, Nested):
        held = value.value
        if not isinstance(held, list):
            raise Unusable("the labels are no list")
        return held
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return []
    said = str(value)
    parts = [said] if separator is None else said.split(separator)
    return [part for part in map(str.strip, parts) if part]


def _holds_several(sample: Sequence[Record], name: str) -> bool:
    """Lists, or texts with a sign between: a column of this name may have one class a row as well."""
    values = [record.values.get(name) for record in sample]
    parted = any(sign in value for value in values if isinstance(value, str) for sign in SEPARATORS)
    return parted or any(isinstance(value, Nested) for value in values)


def _is_flag(sample: Sequence[Record], name: str) -> bool:
    """Whether a column holds nothing but 0 and 1, and both."""
    values = {_FLAGS.get(str(record.values.get(name)).strip().lower()) for record in sample}
    return values == {False, True}


def _flag(value: Any, name: str) -> bool:
    found = _FLAGS.get(str(value).strip().lower())
    if found is None:
        raise Unusable(f"the column {printable(name, 64)} is neither 0 nor 1")
    return found
