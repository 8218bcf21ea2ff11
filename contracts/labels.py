"""Labels that look alike: the same class to a reader, another one to a computer.

Asked at the hospital when a dataset is added, and of the lead before a study is frozen: between hospitals
such labels would silently become classes of their own.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

_NUMBER = re.compile(r"([+-]?)0*(\d+?)(?:\.0+)?", re.ASCII)
_UNSEEN = {
    0x034F,
    0x115F,
    0x1160,
    0x17B4,
    0x17B5,
    0x3164,
    0xFFA0,
    *range(0xFE00, 0xFE10),
    *range(0xE0100, 0xE01F0),
}
"""What is not shown although it is no format mark: joiners, fillers, variation selectors (Unicode's
Default_Ignorable_Code_Point)."""


def look_alikes(labels: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """Groups of labels that differ in case, blanks, width, composition (NFC, NFD), marks that cannot be
    seen, or in how a whole number is written (1, 1.0, 01)."""
    groups: dict[str, list[str]] = defaultdict(list)
    for label in sorted(set(labels)):
        groups[skeleton(label)].append(label)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def skeleton(label: str) -> str:
    """What is left of a label when everything is taken away that a reader could overlook. Of a skeleton it is
    the skeleton itself: folding case can undo normalising and the other way round, so both go on until
    nothing changes."""
    before, plain = None, label
    while plain != before:
        before = plain
        seen = "".join(sign for sign in unicodedata.normalize("NFKC", plain) if not _is_unseen(sign))
        plain = " ".join(seen.casefold().split())
    number = _NUMBER.fullmatch("".join(str(unicodedata.decimal(sign, sign)) for sign in plain))
    if number:
        sign, digits = number.groups()
        return digits if digits == "0" or sign != "-" else f"-{digits}"
    return plain


def spelled(label: str) -> str:
    """A label for people's eyes, so that one which looks like another is seen to differ: blanks at an end, a
    second blank, and every character that is unseen, has a plainer form or could be composed, are named."""
    kinds = "LNPSZM" if unicodedata.is_normalized("NFC", label) else "LNPSZ"
    shown = "".join(sign if _is_plain(sign, kinds) else f"<U+{ord(sign):04X}>" for sign in label)
    return re.sub(r"^ | (?= )| $", "␣", shown)


def _is_unseen(sign: str) -> bool:
    return unicodedata.category(sign) == "Cf" or ord(sign) in _UNSEEN


def _is_plain(sign: str, kinds: str) -> bool:
    return (
        unicodedata.category(sign)[0] in kinds
        and not _is_unseen(sign)
        and (sign == " " or not sign.isspace())
        and unicodedata.is_normalized("NFKC", sign)
    )
