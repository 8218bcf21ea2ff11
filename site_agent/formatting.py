"""Words for a terminal: text from elsewhere made harmless, sizes and times made readable, simple tables.

Everything that the coordinator or a lead wrote passes through `printable` before a person reads it: escape
sequences or direction marks in it could otherwise repaint the screen on which a manifest is approved.
"""

from __future__ import annotations

import argparse
import re
import unicodedata
from collections.abc import Callable, Sequence

from translations.catalogues import plural_words
from translations.numbers import number

# Control, format (zero-width, bidirectional), surrogate, private use, unassigned, line, paragraph separator.
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def printable(value: object, limit: int = 500) -> str:
    """`value` as one line without anything that a terminal would obey; `limit` is in characters.

    What is not printable is shown as its code point, so that it is seen instead of acting.
    """
    text = str(value)
    shown = "".join(
        character if unicodedata.category(character) not in _HIDDEN else f"<U+{ord(character):04X}>"
        for character in text[:limit]
    )
    return shown + ("…" if len(text) > limit else "")


def readable_bytes(count: int) -> str:
    """A size: `412 B`, `3.1 KiB`, `2.0 GiB`."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{count} B" if unit == "B" else number(f"{size:.1f} {unit}")
        size /= 1024
    return number(f"{size:.1f} TiB")


def size(text: str) -> int:
    """Bytes of a size as people write it: `3.4 GiB`, `512MB`. Raises `argparse.ArgumentTypeError`."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)\s*([KMGT])(i?)B", text.strip(), re.IGNORECASE)
    if found is None:
        raise argparse.ArgumentTypeError(f"{printable(text, 40)!r} is no size; write it as 3.4GiB or 512MB")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** ("KMGT".index(found[2].upper()) + 1))


def readable_seconds(seconds: float) -> str:
    """A duration: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 10:
        return number(f"{seconds:.1f} s")
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def counted(count: int, noun: str) -> str:
    """`1 row`, `2 rows`; in another language where the noun is one of those below."""
    said = _NOUNS.get(noun)
    if said is None:
        return number(f"{count:,}") + f" {noun}" + ("" if count == 1 else "s")
    return said(count) % {"n": number(f"{count:,}")}


_ngettext = plural_words("site_agent")
_NOUNS: dict[str, Callable[[int], str]] = {
    "row": lambda n: _ngettext("%(n)s row", "%(n)s rows", n),
    "unusable row": lambda n: _ngettext("%(n)s unusable row", "%(n)s unusable rows", n),
    "run": lambda n: _ngettext("%(n)s run", "%(n)s runs", n),
    "site": lambda n: _ngettext("%(n)s site", "%(n)s sites", n),
    "check": lambda n: _ngettext("%(n)s check", "%(n)s checks", n),
    "answer": lambda n: _ngettext("%(n)s answer", "%(n)s answers", n),
    "text": lambda n: _ngettext("%(n)s text", "%(n)s texts", n),
}


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of left-aligned columns; the last one is as wide as it likes."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    widths[-1] = 0
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
