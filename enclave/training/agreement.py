"""How much of one text is in another: token F1 and ROUGE-L, in millionths, so that pooling adds integers.

Tokens are runs of letters and digits, in lower case: on plain English text those of the package
`rouge-score` (Google Research) without its stemmer, in other languages whole words, too, where that package
breaks them at each letter beyond a to z. Token F1 counts them as a bag; ROUGE-L takes their longest common
subsequence, and of both precision and recall count alike. Runs inside the client slice.

Source: token F1: Rajpurkar et al., arXiv 1606.05250, without that paper's list of English articles;
ROUGE-L: Lin, 2004.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

ONE = 1_000_000
_WORD = re.compile(r"[^\W_]+")


class Agreement(NamedTuple):
    """Of `ONE`."""

    f1: int
    rouge_l: int


def agreement(truth: str, written: str) -> Agreement:
    """Two texts without a word agree in nothing, as in `rouge-score`."""
    one, other = _WORD.findall(truth.lower()), _WORD.findall(written.lower())
    shared = sum((Counter(one) & Counter(other)).values())
    return Agreement(_share(shared, one, other), _share(_common(one, other), one, other))


def _share(found: int, one: list[str], other: list[str]) -> int:
    """The harmonic mean of `found` over each of the lengths: 2 · found / (their sum)."""
    return round(2 * ONE * found / (len(one) + len(other))) if one and other else 0


def _common(one: list[str], other: list[str]) -> int:
    """The length of the longest common subsequence, in memory of one row."""
    row = [0] * (len(other) + 1)
    for word in one:
        before = 0
        for place, against in enumerate(other, 1):
            longest = before + 1 if word == against else max(row[place], row[place - 1])
            before, row[place] = row[place], longest
    return row[-1]
