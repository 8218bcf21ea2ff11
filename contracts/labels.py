"""Labels that look alike: the same class to a reader, another one to a computer.

Asked at the hospital when a dataset is added, and again at the coordinator before a study is frozen: between
hospitals such labels would silently become classes of their own.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

_NUMBER = re.compile(r"[+-]?\d+(\.0+)?")


def look_alikes(labels: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """Groups of labels that differ in case, blanks, width, composition (NFC, NFD), marks that cannot be
    seen, or in how a whole number is written (1, 1.0, 01)."""
    groups: dict[str, list[str]] = defaultdict(list)
    for label in sorted(set(labels)):
        groups[skeleton(label)].append(label)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def skeleton(label: str) -> str:
    """What is left of a label when everything is taken away that a reader could overlook."""
    seen = "".join(
        sign for sign in unicodedata.normalize("NFKC", label) if unicodedata.category(sign) != "Cf"
    )
    plain = " ".join(seen.casefold().split())
    if _NUMBER.fullmatch(plain):
        return str(int(plain.partition(".")[0]))
    return plain
