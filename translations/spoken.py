"""Which language is spoken now."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

ENGLISH = "en"
LANGUAGES = {ENGLISH: "English", "de": "Deutsch"}
"""The languages in which every text is there, by what they call themselves."""

_chosen: ContextVar[str | None] = ContextVar("language", default=None)
_followed: list[Callable[[], str | None]] = []


def language() -> str:
    """The language that is spoken: what `speaking` says, else what is followed, else English."""
    chosen = _chosen.get()
    if chosen is None and _followed:
        chosen = _followed[0]()
    return known(chosen)


def known(name: str | None) -> str:
    """`de` for `de`, `de-AT` or `de_DE.UTF-8`; English for what there is no catalogue of."""
    short = (name or "").replace("_", "-").partition("-")[0].partition(".")[0].lower()
    return short if short in LANGUAGES else ENGLISH


def follow(source: Callable[[], str | None]) -> None:
    """Speak what `source` says (Django's `get_language`), wherever `speaking` says nothing."""
    _followed[:] = [source]


@contextmanager
def speaking(name: str | None) -> Iterator[None]:
    """Speak this language where there is a catalogue of it, else English."""
    before = _chosen.set(known(name))
    try:
        yield
    finally:
        _chosen.reset(before)


def of_terminal(environment: Mapping[str, str]) -> str:
    """The language of a terminal, by the first of these that is set (POSIX): LC_ALL, LC_MESSAGES, LANG."""
    names = ("LC_ALL", "LC_MESSAGES", "LANG")
    return known(next((environment[name] for name in names if environment.get(name)), None))
