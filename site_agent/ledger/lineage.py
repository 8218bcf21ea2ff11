"""Which datasets are of the same people: by equal texts, by name, or by the file that they came from.

Of each dataset the 4,096 smallest keyed hashes of its texts are kept (bottom-k sketch; Broder, 1997), also
when its rows are deleted. They tell nothing without the site's key. Some percent of equal texts are found
with near certainty, and in datasets of up to 4,096 texts each single one.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterable, Sequence
from heapq import nsmallest
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from contracts.refusal import Refusal
from contracts.rows import read_row
from site_agent.datasets.rows import texts
from site_agent.ledger.book import Book, Budget, DatasetRecord

Limit = TypeVar("Limit", int, float)

KEPT = 4096
SIZE = 8
LEAST_REASON = 10


class Relative(Struct, frozen=True):
    """A dataset of before, and why these rows continue it, in words."""

    rows: DatasetRecord
    because: str


def hashes_of(file: Path, key: bytes) -> set[bytes]:
    """Keyed hashes of the longest text of each row of a normalised file; spaces and capitals do not count."""
    found = set()
    with file.open("rb") as lines:
        for line in lines:
            longest = max(texts(read_row(line)), key=len)
            text = " ".join(longest.split()).casefold().encode()
            found.add(hashlib.blake2b(text, digest_size=SIZE, key=key, person=b"ledger/text").digest())
    return found


def tags_of(name: str, files: Iterable[Path], key: bytes) -> tuple[str, ...]:
    """Keyed tags of a dataset's name and of the paths that it was read from."""
    said = [f"name:{name.casefold()}", *(f"file:{file.absolute()}" for file in files)]
    return tuple(
        hashlib.blake2b(what.encode(), digest_size=16, key=key, person=b"ledger/name").hexdigest()
        for what in said
    )


def relatives(book: Book, digest: str, hashes: set[bytes], tags: Sequence[str]) -> list[Relative]:
    """The datasets of before that these rows continue."""
    found = []
    for rows in book.rows:
        seen = {rows.sketch[start : start + SIZE] for start in range(0, len(rows.sketch), SIZE)}
        # Up to the sketch's largest hash it holds all of that dataset's texts.
        largest = max(seen) if len(seen) == KEPT else b"\xff" * SIZE
        ours = {text for text in hashes if text <= largest}
        same = len(ours & seen)
        if rows.digest == digest:
            found.append(Relative(rows, "it is the same file"))
        elif same:
            found.append(Relative(rows, f"{same / len(ours):.0%} of the texts are the same"))
        elif set(rows.tags) & set(tags):
            found.append(Relative(rows, "it has the same name, or came from the same file"))
    return found


def enter(
    book: Book, digest: str, name: str, hashes: set[bytes], tags: Sequence[str], new: str | None = None
) -> str:
    """Enter a dataset; returns its lineage: that of its relatives, which become one, or where a person gives
    a reason (`new`) one of its own.

    Raises: `ledger.same_rows` where the very rows were entered before, `ledger.no_reason`.
    """
    kin = relatives(book, digest, hashes, tags)
    known = next((one.rows for one in kin if one.rows.digest == digest), None)
    if new is not None and len(new.strip()) < LEAST_REASON:
        raise Refusal("ledger.no_reason", least=LEAST_REASON)
    if new is not None and known is not None:
        raise Refusal("ledger.same_rows", name=known.name)
    lineages = [] if new is not None else list(dict.fromkeys(one.rows.lineage for one in kin))
    lineage = lineages[0] if lineages else secrets.token_hex(8)
    if len(lineages) > 1:
        _merge(book, lineages)
    if known is None:
        sketch = b"".join(nsmallest(KEPT, hashes))
        book.rows.append(
            DatasetRecord(digest, lineage, name, tuple(tags), sketch, int(time.time()), (new or "").strip())
        )
    return lineage


def _merge(book: Book, lineages: Sequence[str]) -> None:
    """All their rows are of the first from now on. The tightest budget of each kind holds."""
    first = lineages[0]
    book.rows = [
        msgspec.structs.replace(rows, lineage=first) if rows.lineage in lineages else rows
        for rows in book.rows
    ]
    budgets = [book.budgets.pop(lineage) for lineage in lineages if lineage in book.budgets]
    if budgets:
        book.budgets[first] = Budget(
            site=_least(budget.site for budget in budgets),
            record=_least(budget.record for budget in budgets),
            unbounded=_least(budget.unbounded for budget in budgets),
            delta=min(budget.delta for budget in budgets),
        )


def _least(limits: Iterable[Limit | None]) -> Limit | None:
    return min((limit for limit in limits if limit is not None), default=None)
