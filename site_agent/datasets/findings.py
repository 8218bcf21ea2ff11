"""What stands out in a dataset before it is kept: things that are fine to a computer and wrong to a person.

Nothing here changes a row. Each finding is shown with its count; some are questions that somebody has to
answer before a card is published (`QUESTIONS`). Texts are never shown; labels are, as the card shows them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from msgspec import Struct

from contracts.agents_api.datasets import THRESHOLD
from contracts.labels import look_alikes
from site_agent.datasets.drafting import RowHashes
from site_agent.datasets.missing import looks_missing

ORDER = ("train", "validation", "test")
LONG_TEXT = 2000
"""Characters; about the 512 tokens that most encoders read."""
QUESTIONS = ("missing-labels", "look-alikes", "rare-labels", "unused-texts")


class Findings(Struct, frozen=True):
    """Counts of rows, but for `look_alikes` (groups of labels), `rare_labels` and `missing_labels` (labels
    with their counts), and `unused_texts` (columns that hold texts, and are not read). `leaks` are validation
    or test rows whose text, or prompt, stands in an earlier split, too."""

    missing_labels: dict[str, int]
    missing_texts: int
    duplicates: int
    contradictions: int
    leaks: int
    rare_labels: dict[str, int]
    look_alikes: tuple[tuple[str, ...], ...]
    long_texts: int
    unused_texts: tuple[str, ...] = ()

    def questions(self) -> tuple[str, ...]:
        """The kinds of finding that need an answer, of QUESTIONS."""
        found = {
            "missing-labels": bool(self.missing_labels),
            "look-alikes": bool(self.look_alikes),
            "rare-labels": bool(self.rare_labels),
            "unused-texts": bool(self.unused_texts),
        }
        return tuple(kind for kind in QUESTIONS if found[kind])


def find(rows: RowHashes, missing_texts: int, unused_texts: tuple[str, ...] = ()) -> Findings:
    """Look at all kept rows; how many of their texts look missing was counted as they were read, and which
    columns are left over is known before."""
    counts = rows.counts
    pairs = list(zip(rows.texts, rows.labels, strict=True))
    of_text: dict[bytes, set[str]] = defaultdict(set)
    for text, label in pairs:
        of_text[text].add(label)
    return Findings(
        missing_labels={label: count for label, count in sorted(counts.items()) if looks_missing(label)},
        missing_texts=missing_texts,
        duplicates=sum(repeated(rows)),
        contradictions=sum(len(found) > 1 for found in of_text.values()),
        leaks=sum(leaking(rows.texts, rows.splits)),
        rare_labels={label: count for label, count in sorted(counts.items()) if count < THRESHOLD},
        look_alikes=look_alikes(counts),
        long_texts=sum(length > LONG_TEXT for length in rows.lengths),
        unused_texts=unused_texts,
    )


def repeated(rows: RowHashes) -> list[bool]:
    """For each row: whether the same text with the same label, or answer, stands before it."""
    seen: set[tuple[bytes, str]] = set()
    found = []
    for pair in zip(rows.wholes, rows.labels, strict=True):
        found.append(pair in seen)
        seen.add(pair)
    return found


def leaking(texts: Sequence[bytes], splits: Sequence[str]) -> list[bool]:
    """For each row: whether its text stands in an earlier split, too. What is tested is neither trained on
    nor steered by."""
    first: dict[bytes, int] = {}
    for text, split in zip(texts, splits, strict=True):
        first[text] = min(ORDER.index(split), first.get(text, len(ORDER)))
    return [ORDER.index(split) > first[text] for text, split in zip(texts, splits, strict=True)]
