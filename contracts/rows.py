"""Rows as a hospital keeps them: UTF-8 JSON Lines, each an object of the dataset's kind that says so itself.

The agent writes this form (row_writing.py) after it has checked a file (site_agent/datasets); the client
slice, and the agent in Method 2, read nothing else. Every name is needed, none is known beside them.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from contracts.kinds import Kind

Split = Literal["train", "validation", "test"]
Role = Literal["system", "user", "assistant"]
MOST_CHOICES = 10


class TextLabel(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="text-label"):
    """A text and its class."""

    text: str
    label: str
    split: Split


class PairLabel(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="pair-label"):
    """Two texts that are read together, and the class of the pair."""

    text: str
    text_pair: str
    label: str
    split: Split


class TextLabels(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="text-labels"):
    """A text and those of the labels that it has, in their alphabet."""

    text: str
    labels: tuple[str, ...]
    split: Split


class TokensTags(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="token-tags"):
    """Words of a text, and the tag of each (contracts/entities.py)."""

    tokens: tuple[str, ...]
    tags: tuple[str, ...]
    split: Split


class PromptResponse(
    Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="prompt-response"
):
    """What a model is asked, and what it is to answer."""

    prompt: str
    response: str
    split: Split


class PromptChoices(PromptResponse, frozen=True, tag="prompt-choices"):
    """The same, with all answers that it may choose from, in full; the response is one of them."""

    choices: Annotated[tuple[str, ...], Meta(min_length=2, max_length=MOST_CHOICES)]

    def __post_init__(self) -> None:
        if self.response not in self.choices:
            raise ValueError("the response is none of the choices")


class ChatMessage(Struct, frozen=True, forbid_unknown_fields=True):
    """One turn of a conversation."""

    role: Role
    content: str


class Messages(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="messages"):
    """A conversation of several turns; what the assistant says is learnt."""

    messages: Annotated[tuple[ChatMessage, ...], Meta(min_length=2)]
    split: Split


class WholeText(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="text"):
    """A text that is learnt whole."""

    text: str
    split: Split


Row = TextLabel | PairLabel | TextLabels | TokensTags | PromptResponse | PromptChoices | Messages | WholeText
Conversation = PromptResponse | Messages
OF_KIND: dict[Kind, type[Row]] = {row.__struct_config__.tag: row for row in get_args(Row)}

read_row = msgspec.json.Decoder(Row).decode
"""One line -> its row. Raises msgspec.DecodeError."""
