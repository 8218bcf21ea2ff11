"""Conversations as texts: rendered by a chat template, in pieces that a model is given or is to learn.

The template is Jinja and among the model's pinned files, or PLAIN where the model has none; the manifest
says which. transformers renders it in Jinja's sandbox. What it says of today's date is always TODAY: the same
rows give the same tokens on every day and in every enclave.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from transformers import PreTrainedTokenizerBase

from contracts.refusal import Refusal
from contracts.rows import ChatMessage, Conversation, PromptResponse

PLAIN = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ {'system': '### Instruction', 'user': '### Question', 'assistant': '### Answer'}[message.role] }}"
    "{{ ':\\n' + message.content }}{{ eos_token if message.role == 'assistant' }}{{ '\\n\\n' }}"
    "{% endfor %}"
    "{{ '### Answer:\\n' if add_generation_prompt }}"
)
"""For models without a chat template, whichever words they know. An answer ends with the end of the text."""
TODAY = "26 Jul 2024"
"""The date that templates which want one fall back to (Llama 3.1's does)."""
_CLOCK = "{% macro strftime_now(form) %}" + TODAY + "{% endmacro %}"
"""In the place of transformers' own, which looks at the clock."""


@dataclass(frozen=True)
class TextPiece:
    """A part of a rendered conversation. `learnt`: the assistant says it, with the marks of its end."""

    text: str
    learnt: bool


class Template:
    """The chat template of a run."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, which: str | None) -> None:
        """`which` is the manifest's `model.template`.

        Raises: `template.missing`.
        """
        if which not in ("model", "plain") or (which == "model" and not tokenizer.chat_template):
            raise Refusal("template.missing")
        self._tokenizer = tokenizer
        self._template = _CLOCK + (PLAIN if which == "plain" else tokenizer.get_chat_template())

    def render(self, messages: Sequence[ChatMessage], answering: bool) -> str:
        """The text of some messages; `answering`: up to where the assistant begins to speak.

        What it says itself is not told, as it may repeat what it was given.

        Raises: `template.refuses` for what the template does not take: an order of roles, a message of the
        system.
        """
        said: list[Any] = [{"role": message.role, "content": message.content} for message in messages]
        try:
            text = self._tokenizer.apply_chat_template(
                said,
                chat_template=self._template,
                tokenize=False,
                add_generation_prompt=answering,
                date_string=TODAY,
            )
        except (jinja2.TemplateError, TypeError, ValueError, KeyError) as error:
            roles = ", ".join(message.role for message in messages[:10])
            raise Refusal("template.refuses", roles=roles) from error
        return str(text)

    def pieces(self, messages: Sequence[ChatMessage]) -> list[TextPiece]:
        """The conversation up to its last answer: each answer is learnt, all else is given.

        A template may render an answer otherwise once others follow (some leave out what was thought); then
        the last one alone is learnt.

        Raises: as `render`, and `template.unfit` where even that one is not what follows on the question.
        """
        places = [place for place, message in enumerate(messages) if message.role == "assistant"]
        return self._pieces(messages, places) or self._pieces(messages, places[-1:]) or _unfit()

    def _pieces(self, messages: Sequence[ChatMessage], answers: Sequence[int]) -> list[TextPiece]:
        """None at all where one rendering does not begin as the one before it."""
        pieces, said = [], ""
        for place in answers:
            question = self.render(messages[:place], answering=True)
            answer = self.render(messages[: place + 1], answering=False)
            if not question.startswith(said) or not answer.startswith(question):
                return []
            pieces += [TextPiece(question[len(said) :], False), TextPiece(answer[len(question) :], True)]
            said = answer
        return pieces


def turns(row: Conversation) -> Sequence[ChatMessage]:
    """The messages of a row."""
    if isinstance(row, PromptResponse):
        return (ChatMessage("user", row.prompt), ChatMessage("assistant", row.response))
    return row.messages


def _unfit() -> list[TextPiece]:
    raise Refusal("template.unfit")
