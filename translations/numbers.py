"""Numbers as the language that is spoken writes them. For people only: machines read points."""

from __future__ import annotations

from translations.spoken import language

_SWAPPED = str.maketrans(",.", ".,")


def number(written: str) -> str:
    """A number that was written the English way (`1,234.5`) as German has it (`1.234,5`)."""
    return written.translate(_SWAPPED) if language() == "de" else written
