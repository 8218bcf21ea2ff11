"""Labels that look alike: the same class to a reader, another one to a computer.

Asked at the hospital when a dataset is added, and of the lead before a study is frozen: between hospitals
such labels would silently become classes of their own.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

_NUMBER = re.compile(r"([+-]?)0*(\d+?)(?:[.,](\d*?)0*)?", re.ASCII)
_MARKS = re.compile("[\u0300-\u036f]")
"""Accents and the like on Latin, Greek and Cyrillic letters, which exports lose; in other scripts marks are
letters."""

_LETTERS = str.maketrans(
    "\u0430\u0432\u0435\u043a\u043c\u043d\u043e\u0440\u0441\u0442\u0443\u0445\u0455\u0456\u0458\u0501\u051b\u051d"
    "\u03b1\u03b2\u03b5\u03b6\u03b7\u03b9\u03ba\u03bd\u03bf\u03c1\u03c4\u03c5\u03c7\u0131",
    "abekmhopctyxsijdqwabezhiknoptyxi",
)
"""Cyrillic and Greek letters that, in one case at least, look like a Latin one, and the Latin one; and the i
without a dot. Source: Unicode TS 39, confusables.txt. Not mu: a microgram is no milligram."""
_COMMONER = str.maketrans("\u00e6\u0153\u00f8\u0142\u0111\u06cc\u06a9", "aoold\u064a\u0643")
"""What exports in plain Latin or Arabic letters write for a letter that is none of these."""
_UMLAUT = re.compile("(?<=[aou])e+")
"""Gefaess for Gef\u00e4\u00df, as systems without umlauts write."""
_ENTITY = re.compile("&#?[0-9A-Za-z]{2,10};")
_QUOTED = re.compile(r"""=?(["'])(.+)\1""")
_TEXT_MARK = re.compile(r"^'(?=\w[^']*$)")
"""Excel's own mark for a number that is text."""

_SIGNS = {
    **dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"), "-"),
    **dict.fromkeys(map(ord, "\u2018\u2019\u201a\u201b\u2032`\u00b4"), "'"),
    **dict.fromkeys(map(ord, "\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033"), '"'),
}
_BETWEEN_WORDS = re.compile(r"(?<=\w)[-_ ]+(?=\w)|_")
_BEFORE_SIGN = re.compile(r"(?<=\w) (?=[^\w\s])")
_UNSEEN = {
    0x034F,
    0x0640,
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
Default_Ignorable_Code_Point); and the stroke that only stretches an Arabic word."""


def look_alikes(labels: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """Groups of labels that differ in case, blanks, width, accents and their composition (NFC, NFD), marks
    that cannot be seen, letters of another script that look the same, dashes, quotes and quotes around, what
    stands between words (not-urgent, not_urgent), a point at the end, how a number is written (1, 1.0, 1,0,
    01), umlauts as two letters, or in signs that a program read in the wrong encoding or left as HTML."""
    groups: dict[str, list[str]] = defaultdict(list)
    for label in sorted(set(labels)):
        groups[skeleton(label)].append(label)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def skeleton(label: str) -> str:
    """What is left of a label when everything is taken away that a reader could overlook. Of a skeleton it is
    the skeleton itself: folding case can undo normalising and the other way round, so all goes on until
    nothing changes."""
    before, plain = None, label
    while plain != before:
        before = plain
        plain = _plainer(plain)
    number = _NUMBER.fullmatch("".join(str(unicodedata.decimal(sign, sign)) for sign in plain))
    if not number:
        return plain
    sign, whole, fraction = number.groups()
    digits = f"{whole}.{fraction}" if fraction else whole
    return digits if digits == "0" or sign != "-" else f"-{digits}"


def _plainer(label: str) -> str:
    composed = unicodedata.normalize("NFC", label)
    label = _read_rightly(_ENTITY.sub(lambda found: html.unescape(found[0]), composed))
    seen = "".join(sign for sign in unicodedata.normalize("NFKC", label) if not _is_unseen(sign))
    bare = _MARKS.sub("", unicodedata.normalize("NFKD", seen.casefold()))
    commoner = unicodedata.normalize("NFKC", bare).translate(_LETTERS).translate(_COMMONER)
    plain = " ".join(commoner.translate(_SIGNS).split())
    bare_word = _QUOTED.fullmatch(plain)
    plain = _UMLAUT.sub("", _TEXT_MARK.sub("", bare_word[2] if bare_word else plain))
    if _NUMBER.fullmatch(plain):
        return plain
    words = _BEFORE_SIGN.sub("", _BETWEEN_WORDS.sub(" ", plain)).rstrip(".:; ")
    return words.strip() or plain


def _read_rightly(label: str) -> str:
    """What was meant by UTF-8 that a program read as Windows-1252 (gr\u00c3\u00bcn for gr\u00fcn)."""
    try:
        return label.encode("windows-1252").decode()
    except UnicodeError:
        return label


def spelled(label: str) -> str:
    """A label for people's eyes, so that one which looks like another is seen to differ: blanks at an end, a
    second blank, and every character that is unseen, has a plainer form or could be composed, are named; so
    are letters of another script in what reads as if it were Latin."""
    kinds = "LNPSZM" if unicodedata.is_normalized("NFC", label) else "LNPSZ"
    foreign = set(label) if skeleton(label).isascii() else set()
    shown = "".join(
        sign if _is_plain(sign, kinds) and not (sign in foreign and _looks_latin(sign)) else _named(sign)
        for sign in label
    )
    return re.sub(r"^ | (?= )| $", "␣", shown)


def meant(said: str) -> str:
    """A label as a person types it who has read what `spelled` shows: `<U+0410>` is that character."""
    return _NAMED.sub(lambda found: chr(int(found[1], 16)), said)


_NAMED = re.compile(r"<U\+([0-9A-F]{4}|10[0-9A-F]{4}|[1-9A-F][0-9A-F]{4})>")


def _named(sign: str) -> str:
    return f"<U+{ord(sign):04X}>"


def _looks_latin(sign: str) -> bool:
    return ord(sign.casefold()[0]) in _LETTERS


def _is_unseen(sign: str) -> bool:
    return unicodedata.category(sign) == "Cf" or ord(sign) in _UNSEEN


def _is_plain(sign: str, kinds: str) -> bool:
    return (
        unicodedata.category(sign)[0] in kinds
        and not _is_unseen(sign)
        and (sign == " " or not sign.isspace())
        and unicodedata.is_normalized("NFKC", sign)
    )
