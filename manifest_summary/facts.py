"""Facts and the sections that they stand in; the words' language."""

from __future__ import annotations

from typing import NamedTuple

from translations.catalogues import words

_ = words("manifest_summary")


class Fact(NamedTuple):
    """`is_code`: a name, a number or a hash to be compared, no sentence."""

    name: str
    value: str
    is_code: bool = False


class Section(NamedTuple):
    """Facts under a title. Names differ within it."""

    title: str
    facts: tuple[Fact, ...]
