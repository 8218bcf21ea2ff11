"""Facts and the sections that they stand in; the words' language."""

from __future__ import annotations

import gettext
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import NamedTuple

CATALOGUES = Path(__file__).parent / "locale"
_language: ContextVar[str] = ContextVar("language", default="en")


class Fact(NamedTuple):
    """`is_code`: a name, a number or a hash to be compared, no sentence."""

    name: str
    value: str
    is_code: bool = False


class Section(NamedTuple):
    """Facts under a title. Names differ within it."""

    title: str
    facts: tuple[Fact, ...]


def _(text: str) -> str:
    """The text in the language that is spoken."""
    return _catalogue(_language.get()).gettext(text)


@contextmanager
def speaking(language: str) -> Iterator[None]:
    """Speak `language` (`de`, `fr`) where there is a catalogue of it, else English."""
    before = _language.set(language)
    try:
        yield
    finally:
        _language.reset(before)


@cache
def _catalogue(language: str) -> gettext.NullTranslations:
    return gettext.translation("manifest_summary", CATALOGUES, [language], fallback=True)
