"""What is remembered of each row while a file is read: enough to judge all of them together, and no text."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import compress

from contracts.rows import Messages, Row, Split
from site_agent.datasets.missing import looks_missing
from site_agent.datasets.rows import Found, answers, each, given, label_of, texts


@dataclass(frozen=True)
class RowHashes:
    """Of each row, in order: a hash of what a model reads of it, a hash of all of it, its label (as
    `rows.label_of` says it) and split, the characters of all its texts, those of what a language model is to
    say, and its turns."""

    texts: list[bytes] = field(default_factory=list)
    wholes: list[bytes] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    splits: list[Split] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)

    def only(self, kept: Sequence[bool]) -> RowHashes:
        """The rows at the true places."""
        return RowHashes(*(list(compress(column, kept)) for column in vars(self).values()))

    @property
    def counts(self) -> Counter[str]:
        """How many rows each label has."""
        return Counter(label for said in self.labels for label in each(said))


@dataclass
class Drafted:
    """The rows so far; `given` are their splits where the file says one."""

    rows: RowHashes = field(default_factory=RowHashes)
    given: list[Split | None] = field(default_factory=list)
    labels: set[str] = field(default_factory=set)
    missing_texts: int = 0

    def __len__(self) -> int:
        return len(self.given)

    def add(self, found: Found) -> None:
        """Take note of a row."""
        row, rows = found.row, self.rows
        label = label_of(row)
        rows.texts.append(_hash(given(row)))
        rows.wholes.append(_hash("\0".join((given(row), *answers(row)))))
        rows.labels.append(label)
        rows.lengths.append(sum(map(len, texts(row))))
        rows.answers.append(sum(map(len, answers(row))))
        rows.turns.append(len(row.messages) if isinstance(row, Messages) else 1)
        self.given.append(found.split)
        self.labels.update(each(label))
        self.missing_texts += missing(row)


def missing(row: Row) -> bool:
    """Whether a text of the row is a word for nothing."""
    return any(map(looks_missing, texts(row)))


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:16]
