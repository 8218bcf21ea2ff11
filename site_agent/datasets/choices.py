"""The choices of a question: in a column of lists, in a column each, or the same for every question."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

from contracts.rows import MOST_CHOICES
from site_agent.datasets.readers import Nested
from site_agent.datasets.unusable import Unusable, text

LETTERS = string.ascii_uppercase


def choices_in(values: dict[str, Any], names: Sequence[str]) -> list[str]:
    """The choices of a question in their order; none where there is no list of a few texts. Raises
    Unusable."""
    cells = [values.get(name) for name in names]
    while cells and is_nothing(cells[-1]):  # a question with fewer choices than columns
        cells.pop()
    value_read = cells[0].value if len(names) == 1 and cells and isinstance(cells[0], Nested) else cells
    if isinstance(value_read, dict):  # as ARC has it: {"text": […], "label": […]}; or {"A": …, "B": …}
        value_read = (
            value_read["text"] if isinstance(value_read.get("text"), list) else list(value_read.values())
        )
    if not isinstance(value_read, list) or not 2 <= len(value_read) <= len(LETTERS):
        return []
    return [
        text(str(choice) if isinstance(choice, int | float) else choice, "choice") for choice in value_read
    ]


def has_few_choices(values: dict[str, Any], names: Sequence[str]) -> bool:
    """Whether a row can be scored by its choices."""
    try:
        return 2 <= len(choices_in(values, names)) <= MOST_CHOICES
    except Unusable:
        return False


def place_of(value: Any, choices: Sequence[str]) -> int:
    """Which of them an answer is: by the choice itself, its letter, or its place counted from 0. Raises
    Unusable."""
    place = _place(value, choices)
    if place is None:
        raise Unusable("the answer is none of the choices (a number counts from 0)")
    return place


def _place(value: Any, choices: Sequence[str]) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value if 0 <= value < len(choices) else None
    if not isinstance(value, str):
        raise Unusable("the response is not text")
    said = value.strip()
    if said in choices and choices.count(said) == 1:
        return choices.index(said)
    letter = said.rstrip(".)").upper()
    if len(letter) == 1 and letter in LETTERS[: len(choices)]:
        return LETTERS.index(letter)
    return int(said) if said.isdecimal() and int(said) < len(choices) else None


def lettered(choices: Sequence[str]) -> list[str]:
    """As a question shows them, and an answer names one."""
    return [f"{LETTERS[place]}. {choice}" for place, choice in enumerate(choices)]


def is_nothing(value: Any) -> bool:
    """No cell, or one of blanks."""
    return value is None or (isinstance(value, str) and not value.strip())
