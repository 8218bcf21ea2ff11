"""Questions of several columns, answers among choices, and conversations of many turns, as their rows keep
them."""

from __future__ import annotations

from typing import Any, get_args

from contracts.rows import MOST_CHOICES, ChatMessage, PromptChoices, Role, Split
from site_agent.datasets.choices import choices_in, is_nothing, lettered, place_of
from site_agent.datasets.columns import Columns
from site_agent.datasets.readers import Nested
from site_agent.datasets.unusable import Unusable, text

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
    choices = choices_in(values, columns.choices)
    values_read = [values.get(name) for name in (*columns.prompt, *(() if choices else columns.choices))]
    parts = [_paragraphs(value) for value in values_read if not is_nothing(value)]
    if choices:
        parts.append("\n".join(lettered(choices)))
    return text("\n\n".join(parts) or None, "prompt")


def answer(values: dict[str, Any], columns: Columns) -> str:
    """What it is to say. Among choices: the letter and the choice, whether the file has the letter, the
    choice itself, or its place counted from 0."""
    value = values.get(columns.the("response"))
    choices = choices_in(values, columns.choices)
    if not choices:
        return text(_numbered(value), "response")
    return lettered(choices)[place_of(value, choices)]


def chosen(values: dict[str, Any], columns: Columns, split: Split) -> PromptChoices:
    """A question with its choices. Those that it shows are answered with their letter, as `answer` does;
    those that are the same for every question with the word alone. Raises Unusable."""
    shown = choices_in(values, columns.choices)
    choices = shown or list(columns.fixed)
    if not choices:
        raise Unusable("there are no choices")
    if len(choices) > MOST_CHOICES:
        raise Unusable(f"there are more than {MOST_CHOICES} choices")
    place = place_of(values.get(columns.the("response")), choices)
    full = tuple(lettered(choices) if shown else choices)
    return PromptChoices(question(values, columns), full[place], split, full)


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
