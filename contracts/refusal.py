"""A refusal: a code of the error catalogue, and facts. Inside an enclave codes and facts are enough.

A boundary that refuses something raises `Refusal`. The words for people are in `error_catalogue`, which no
enclave loads; a process that shows them imports it, and `str(refusal)` is then the catalogue's sentence.
A refusal carries only its code and *facts*: small values that may be shown to anyone who may see the refusal.
Rows, labels, tensors and secrets are never facts.
"""

from __future__ import annotations

from collections.abc import Callable

Fact = str | int | float | bool | None

_sentence: Callable[[str, dict[str, Fact]], str] | None = None


class Refusal(Exception):
    """A request, input or peer was refused; nothing was changed. `code` names the catalogue's entry."""

    def __init__(self, code: str, **facts: Fact) -> None:
        super().__init__(code)
        self.code = code
        self.facts = facts

    def __str__(self) -> str:
        if _sentence is None:
            return f"{self.code} {self.facts}" if self.facts else self.code
        return f"{_sentence(self.code, self.facts)} [{self.code}]"


def word_refusals(sentence: Callable[[str, dict[str, Fact]], str]) -> None:
    """From now on `str(refusal)` is `sentence(code, facts)`, with the code behind it. The error catalogue
    calls this as it is imported."""
    global _sentence
    _sentence = sentence
