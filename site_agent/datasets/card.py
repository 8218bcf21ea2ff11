"""How the dataset card is made (contracts/agents_api/datasets.py says what is published)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from contracts.agents_api.datasets import Card, Quantile, Quantiles, Split
from contracts.dataset_digest import begin_digest
from contracts.kinds import CONVERSATIONS, SEVERAL, TAGGED, Kind
from site_agent.datasets.suppression import suppress, suppress_each

QUANTILES: dict[Quantile, int] = {"p10": 10, "p25": 25, "p50": 50, "p75": 75, "p90": 90}
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


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
    every_split = suppress({split: splits.get(split, 0) for split in SPLITS})
    return Card(
        rows=len(lengths),
        labels=_suppressed(dict(sorted(labels.items())), len(lengths), kind),
        splits={split: every_split[split] for split in SPLITS},
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


def _quantiles(numbers: Sequence[int]) -> Quantiles:
    ordered = sorted(numbers)
    return {name: _rounded(ordered[(len(ordered) - 1) * part // 100]) for name, part in QUANTILES.items()}


def _rounded(count: int) -> int:
    """Two significant digits."""
    step = 10 ** max(len(str(count)) - 2, 0)
    return round(count / step) * step
