"""What pages and studies ask about datasets."""

from __future__ import annotations

from collections.abc import Iterable

from federation.datasets.cards import read
from federation.datasets.models import Dataset


def all_labels(datasets: Iterable[Dataset]) -> list[str]:
    """The union of the datasets' labels, sorted: the label ids of a run follow this order."""
    return sorted({label for dataset in datasets for label in dataset.card["labels"]})


def is_public(dataset: Dataset) -> bool:
    """Whether its site has declared that anybody may read it."""
    return read(dataset.card).public


def training_rows(ids: Iterable[str]) -> list[int | None]:
    """How many rows of each of these datasets are trained on; None where its card hides it."""
    cards = [read(dataset.card) for dataset in Dataset.objects.filter(pk__in=list(ids))]
    return [card.splits.get("train") for card in cards]
