"""Questions of several columns, answers among choices, and conversations of many turns, as their rows keep
them."""

from __future__ import annotations

import string
from typing import Any, get_args

from contracts.rows import ChatMessage, Role
from site_agent.datasets.columns import Columns
from site_agent.datasets.readers import Nested
from site_agent.datasets.unusable import Unusable, text

LETTERS = string.ascii_uppercase
ROLES: dict[str, Role] = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "bot": "assistant", "model": "assistant", "ai": "assistant",
}  # fmt: skip
KEYS = (("role", "content"), ("from", "value"))
"""What a turn is called: by most, and by ShareGPT."""


def question(values: dict[str, Any], columns: Columns) -> str:
    """What a model is asked: the columns of the prompt that hold something, in their order, parted by blank
    lines, and after them the choices, lettered."""
    choices = _choices(values, columns)
    values_read = [values.get(name) for name in (*columns.prompt, *(() if choices else columns.choices))]
    parts = [_paragraphs(value) for value in values_read if not _is_nothing(value)]
    if choices:
        parts.append("\n".join(f"{LETTERS[place]}. {choice}" for place, choice in enumerate(choices)))
    return text("\n\n".join(parts) or None, "prompt")


def answer(values: dict[str, Any], columns: Columns) -> str:
    """What it is to say. Among choices: the letter and the choice, whether the file has the letter, the
    choice itself, or its place counted from 0."""
    value = values.get(columns.the("response"))
    choices = _choices(values, columns)
    if not choices:
        return text(_numbered(value), "response")
    place = _place(value, choices)
    if place is None:
        raise Unusable("the answer is none of the choices (a number counts from 0)")
    return f"{LETTERS[place]}. {choices[place]}"


def messages(value: Any) -> tuple[ChatMessage, ...]:
    """A conversation: turns of system, user and assistant, up to the last that the assistant has."""
    value_read = value.value if isinstance(value, Nested) else value
    if not isinstance(value_read, list) or not all(isinstance(turn, dict) for turn in value_read):
        raise Unusable("the messages are no list of turns")
    turns = [_turn(turn) for turn in value_read]
    answers = [place for place, turn in enumerate(turns) if turn.role == "assistant"]
    if not answers:
        raise Unusable("the assistant says nothing")
    if turns[0].role == "assistant":
        raise Unusable("the assistant speaks first")
    return tuple(turns[: answers[-1] + 1])


def unread(value: Any) -> set[str]:
    """What turns of a conversation say beside who speaks and what."""
    value_read = value.value if isinstance(value, Nested) else None
    turns = [turn for turn in value_read if isinstance(turn, dict)] if isinstance(value_read, list) else []
    known = {key for pair in KEYS for key in pair}
    return {str(key) for turn in turns for key, said in turn.items() if key not in known and said is not None}


def _turn(turn: dict[str, Any]) -> ChatMessage:
    keys = next((pair for pair in KEYS if pair[0] in turn and pair[1] in turn), None)
    if keys is None:
        raise Unusable("a turn does not say who speaks and what (role, content)")
    role = ROLES.get(str(turn[keys[0]]).strip().lower())
    if role is None:
        raise Unusable(f"a turn is of none of {', '.join(get_args(Role))}")
    return ChatMessage(role, text(turn[keys[1]], "content of a turn"))


def _choices(values: dict[str, Any], columns: Columns) -> list[str]:
    """The choices of a question in their order; none where there is no list of a few texts."""
    cells = [values.get(name) for name in columns.choices]
    while cells and _is_nothing(cells[-1]):  # a question with fewer choices than columns
        cells.pop()
    value_read = (
        cells[0].value if len(columns.choices) == 1 and cells and isinstance(cells[0], Nested) else cells
    )
    if isinstance(value_read, dict):  # as ARC has it: {"text": […], "label": […]}; or {"A": …, "B": …}
        value_read = (
            value_read["text"] if isinstance(value_read.get("text"), list) else list(value_read.values())
        )
    if not isinstance(value_read, list) or not 2 <= len(value_read) <= len(LETTERS):
        return []
    return [
        text(str(choice) if isinstance(choice, int | float) else choice, "choice") for choice in value_read
    ]


def _place(value: Any, choices: list[str]) -> int | None:
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


def _is_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _paragraphs(value: Any) -> str:
    value_read = value.value if isinstance(value, Nested) else value
    if isinstance(value_read, dict):  # as PubMedQA has it: {"contexts": […], "labels": […], …}
        value_read = value_read.get("contexts")
    if isinstance(value_read, list):
        return "\n\n".join(text(part, "prompt") for part in value_read)
    return text(_numbered(value_read), "prompt")


def _numbered(value: Any) -> Any:
    """Whole numbers are answers and questions as much as words are."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value
