"""The dataset card: all that the coordinator and the other sites learn of a dataset. It holds no row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from contracts.dataset_digest import begin_digest
from contracts.kinds import CONVERSATIONS, SEVERAL, TAGGED, Kind
from site_agent.datasets.suppression import THRESHOLD, suppress, suppress_each

QUANTILES = (10, 25, 50, 75, 90)


class Card(Struct, frozen=True):
    """What is published.

    `labels` and `splits` map names to numbers of rows; None is a count that is not published because it, or
    another that it would give away, is below `threshold`. `text_length` maps p10 … p90 to characters, rounded
    to two digits. The shortest and the longest text are left out: each is one person's. `public` is the
    site's word that anybody may read the rows; only such data may train unprotected. Of conversations
    `answer_length` is what the assistant says, in characters a row, and `turns` the number of messages;
    `languages` (BCP 47) are what a person has said.
    """

    rows: int
    labels: dict[str, int | None]
    splits: dict[str, int | None]
    text_length: dict[str, int]
    threshold: int = THRESHOLD
    public: bool = False
    kind: Kind = "text-label"
    answer_length: dict[str, int] = {}
    turns: dict[str, int] = {}
    languages: tuple[str, ...] = ()


def make_card(
    labels: Mapping[str, int],
    splits: Mapping[str, int],
    lengths: Sequence[int],
    public: bool = False,
    *,
    kind: Kind = "text-label",
    answers: Sequence[int] = (),
    turns: Sequence[int] = (),
    languages: Sequence[str] = (),
) -> Card:
    """The card of a dataset with these exact counts and these text lengths (characters, at least one); of
    conversations also with those of the answers, and with the numbers of messages."""
    every_split = {split: splits.get(split, 0) for split in ("train", "validation", "test")}
    return Card(
        rows=len(lengths),
        labels=_suppressed(dict(sorted(labels.items())), len(lengths), kind),
        splits=suppress(every_split),
        text_length=_quantiles(lengths),
        public=public,
        kind=kind,
        answer_length=_quantiles(answers) if kind in CONVERSATIONS else {},
        turns=_quantiles(turns) if kind == "messages" else {},
        languages=tuple(languages),
    )


def _suppressed(labels: dict[str, int], rows: int, kind: Kind) -> dict[str, int | None]:
    """Counts of one label a row come to the number of rows; those of several do not, and each stands for
    itself."""
    return suppress_each(labels, rows) if kind in (SEVERAL, TAGGED) else suppress(labels)


def content_digest(file: Path, key: bytes) -> str:
    """The digest of a normalised dataset under the site's dataset key, in hex."""
    digest = begin_digest(key)
    with file.open("rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _quantiles(numbers: Sequence[int]) -> dict[str, int]:
    ordered = sorted(numbers)
    return {f"p{share}": _rounded(ordered[(len(ordered) - 1) * share // 100]) for share in QUANTILES}


def _rounded(count: int) -> int:
    """Two significant digits."""
    step = 10 ** max(len(str(count)) - 2, 0)
    return round(count / step) * step
