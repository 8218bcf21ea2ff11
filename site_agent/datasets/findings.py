"""What stands out in a dataset before it is kept: things that are fine to a computer and wrong to a person.

Nothing here changes a row. Each finding is shown with its count; some are questions that somebody has to
answer before a card is published (`QUESTIONS`). Texts are never shown; labels are, as the card shows them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

from msgspec import Struct

from contracts.labels import look_alikes
from site_agent.datasets.missing import looks_missing
from site_agent.datasets.suppression import THRESHOLD

LONG_TEXT = 2000
"""Characters; about the 512 tokens that most encoders read."""
QUESTIONS = ("missing-labels", "look-alikes", "rare-labels")


class Findings(Struct, frozen=True):
    """Counts of rows, but for `look_alikes` (groups of labels), `rare_labels` and `missing_labels` (labels
    with their counts). `leaks` are validation or test rows whose text stands in train too."""

    missing_labels: dict[str, int]
    missing_texts: int
    duplicates: int
    contradictions: int
    leaks: int
    rare_labels: dict[str, int]
    look_alikes: tuple[tuple[str, ...], ...]
    long_texts: int

    def questions(self) -> tuple[str, ...]:
        """The kinds of finding that need an answer, of QUESTIONS."""
        found = {
            "missing-labels": bool(self.missing_labels),
            "look-alikes": bool(self.look_alikes),
            "rare-labels": bool(self.rare_labels),
        }
        return tuple(kind for kind in QUESTIONS if found[kind])


@dataclass(frozen=True)
class Rows:
    """Of each row, in order: a hash of its text, its label, its split, its text's length in characters."""

    texts: list[bytes]
    labels: list[str]
    splits: list[str]
    lengths: list[int]

    def only(self, kept: Sequence[bool]) -> Rows:
        """The rows at the true places."""
        columns = (self.texts, self.labels, self.splits, self.lengths)
        return Rows(*(list(compress(column, kept)) for column in columns))  # type: ignore[arg-type]


def find(rows: Rows, missing_texts: int) -> Findings:
    """Look at all kept rows; how many of their texts look missing was counted as they were read."""
    counts = Counter(rows.labels)
    pairs = list(zip(rows.texts, rows.labels, strict=True))
    of_text: dict[bytes, set[str]] = defaultdict(set)
    for text, label in pairs:
        of_text[text].add(label)
    return Findings(
        missing_labels={label: count for label, count in sorted(counts.items()) if looks_missing(label)},
        missing_texts=missing_texts,
        duplicates=len(pairs) - len(set(pairs)),
        contradictions=sum(len(found) > 1 for found in of_text.values()),
        leaks=sum(leaking(rows.texts, rows.splits)),
        rare_labels={label: count for label, count in sorted(counts.items()) if count < THRESHOLD},
        look_alikes=look_alikes(counts),
        long_texts=sum(length > LONG_TEXT for length in rows.lengths),
    )


def repeated(rows: Rows) -> list[bool]:
    """For each row: whether the same text with the same label stands before it."""
    seen: set[tuple[bytes, str]] = set()
    found = []
    for pair in zip(rows.texts, rows.labels, strict=True):
        found.append(pair in seen)
        seen.add(pair)
    return found


def leaking(texts: Sequence[bytes], splits: Sequence[str]) -> list[bool]:
    """For each row: whether it is to judge the model, and its text is trained on."""
    trained = {text for text, split in zip(texts, splits, strict=True) if split == "train"}
    return [split != "train" and text in trained for text, split in zip(texts, splits, strict=True)]
