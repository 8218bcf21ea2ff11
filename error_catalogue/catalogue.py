"""The mechanism of the error catalogue: entries, and the words for people.

A boundary that refuses something raises `contracts.refusal.Refusal` with a code of the catalogue. The text
for people is made at the edge (page, API, command line), from here.

The entries stand in the modules beside this one, one per package, named after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from contracts.refusal import Fact, word_refusals
from translations.catalogues import words
from translations.spoken import ENGLISH, speaking

ResponsibleParty = Literal["site", "lead", "operator", "us"]
_ = words("error_catalogue")


@dataclass(frozen=True)
class Entry:
    """One line of the catalogue: what happened, what to do next, and who can do it.

    `message` and `hint` may name facts in braces ("line {line}"). `retry` says whether the same request can
    succeed later without anybody changing anything.
    """

    code: str
    message: str
    hint: str
    responsible: ResponsibleParty
    retry: bool = False


@dataclass(frozen=True)
class Explained:
    """An entry with its facts filled in: what a person reads."""

    code: str
    message: str
    hint: str
    responsible: ResponsibleParty
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


class _Missing(dict[str, Fact]):
    def __missing__(self, key: str) -> str:
        return "?"


def explain(code: str, facts: dict[str, Fact] | None = None) -> Explained:
    """The catalogue's words for `code` in the language that is spoken; an unknown code is an internal error
    to the reader.

    An enclave names by `cause` the code of what is behind a refusal; its words are the fact `reason`.
    """
    entry = CATALOGUE.get(code, INTERNAL)
    values = _Missing(facts or {})
    cause = values.get("cause")
    if isinstance(cause, str) and "reason" not in values:
        values["reason"] = explain(cause, {**values, "cause": None}).message
    message, hint = _(entry.message).format_map(values), _(entry.hint).format_map(values)
    return Explained(entry.code, message, hint, entry.responsible, entry.retry)


def _as_logged(code: str, facts: dict[str, Fact]) -> str:
    """A refusal's own text, which logs and tracebacks hold: in English, whoever reads."""
    with speaking(ENGLISH):
        return explain(code, facts).message


define(INTERNAL)
word_refusals(_as_logged)
