"""The mechanism of the error catalogue: entries, refusals, and the words for people.

A boundary that refuses something raises `Refusal` with a code of the catalogue. The text for people is made
at the edge (page, API, command line) from the catalogue; a refusal carries only a code and *facts*: small
values that may be shown to anyone who may see the refusal. Rows, labels, tensors and secrets are never facts.

The entries stand in the modules beside this one, one per package, named after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Turn = Literal["site", "lead", "operator", "us"]
Fact = str | int | float | bool | None


@dataclass(frozen=True)
class Entry:
    """One line of the catalogue: what happened, what to do next, and who can do it.

    `message` and `hint` may name facts in braces ("line {line}"). `retry` says whether the same request can
    succeed later without anybody changing anything.
    """

    code: str
    message: str
    hint: str
    turn: Turn
    retry: bool = False


@dataclass(frozen=True)
class Explained:
    """An entry with its facts filled in: what a person reads."""

    code: str
    message: str
    hint: str
    turn: Turn
    retry: bool


CATALOGUE: dict[str, Entry] = {}

INTERNAL = Entry(
    "internal",
    "An internal error stopped this.",
    "The full story is in the log of the process that failed; send its reference to the operator.",
    "us",
)


def define(*entries: Entry) -> None:
    """Add entries to the catalogue. A code means one thing: defining it twice is a programming error."""
    for entry in entries:
        if CATALOGUE.setdefault(entry.code, entry) != entry:
            raise ValueError(f"error code defined twice: {entry.code}")


class Refusal(Exception):
    """A request, input or peer was refused; nothing was changed. `code` names the catalogue's entry."""

    def __init__(self, code: str, **facts: Fact) -> None:
        super().__init__(code)
        self.code = code
        self.facts = facts

    def __str__(self) -> str:
        explained = explain(self.code, self.facts)
        return f"{explained.message} [{self.code}]"


class _Missing(dict[str, Fact]):
    def __missing__(self, key: str) -> str:
        return "?"


def explain(code: str, facts: dict[str, Fact] | None = None) -> Explained:
    """The catalogue's words for `code`; a code that is not in it is an internal error to the reader."""
    entry = CATALOGUE.get(code, INTERNAL)
    values = _Missing(facts or {})
    return Explained(
        entry.code, entry.message.format_map(values), entry.hint.format_map(values), entry.turn, entry.retry
    )


define(INTERNAL)
