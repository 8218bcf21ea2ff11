"""Labels of hospitals that look alike: side by side for the lead, and what their decisions make of them.

The plan holds the decisions: `same_labels` (spelling -> the label that it stands for) and `different_labels`.
Freezing takes none for granted: each group of look-alikes is decided, or the study is not frozen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from contracts.labels import look_alikes, skeleton, spelled
from contracts.refusal import Refusal
from federation.datasets.models import Dataset
from federation.datasets.queries import all_labels
from federation.studies.plan import Plan


@dataclass(frozen=True)
class Spelling:
    """One spelling with the hospitals that publish it, each with its number of rows (None: hidden)."""

    label: str
    sites: tuple[tuple[str, int | None], ...]

    @property
    def key(self) -> str:
        """Its name in a form: the label itself may hold what a browser changes."""
        return _key(self.label)

    @property
    def shown(self) -> str:
        """With what cannot be seen named."""
        return spelled(self.label)

    @property
    def weight(self) -> tuple[int, int, bool]:
        """How common it is, as far as that is published; of two that are as common, the one without what
        cannot be seen counts more."""
        return sum(count or 0 for _, count in self.sites), len(self.sites), self.shown == self.label


@dataclass(frozen=True)
class SimilarSpellings:
    """Spellings that look alike, the commonest first. `within` are the hospitals that have several of them:
    there each was somebody's choice."""

    key: str
    spellings: tuple[Spelling, ...]
    within: tuple[str, ...]

    @property
    def labels(self) -> list[str]:
        return [spelling.label for spelling in self.spellings]


def groups(datasets: Sequence[Dataset]) -> list[SimilarSpellings]:
    """All that look alike in these datasets' cards."""
    found = []
    for labels in look_alikes(all_labels(datasets)):
        spellings = [Spelling(label, _sites_with(label, datasets)) for label in labels]
        within = [
            dataset.site.name for dataset in datasets if len(set(labels) & set(dataset.card["labels"])) > 1
        ]
        spellings.sort(key=lambda spelling: spelling.weight, reverse=True)
        found.append(SimilarSpellings(_key(skeleton(labels[0])), tuple(spellings), tuple(within)))
    return found


def decided(plan: Plan, datasets: Sequence[Dataset]) -> tuple[list[str], dict[str, str]]:
    """The labels of a run in their order, and what stands for which of them (spelling -> label).

    Decisions about labels that no dataset has any more are left out.

    Raises: `study.look_alike_labels` for what is undecided, `study.unlike_labels` and
    `study.merges_own_labels`.
    """
    labels = all_labels(datasets)
    spellings = {said: label for said, label in plan.same_labels.items() if said in labels}
    for said, label in spellings.items():
        if label not in labels or label in spellings or skeleton(said) != skeleton(label):
            raise Refusal("study.unlike_labels", spelling=spelled(said), label=spelled(label))
    for group in groups(datasets):
        left = [label for label in group.labels if label not in spellings]
        if len(left) > 1 and not set(left) <= set(plan.different_labels):
            raise Refusal("study.look_alike_labels", labels=_side_by_side(group))
    for dataset in datasets:
        own = list(dataset.card["labels"])
        if len({spellings.get(label, label) for label in own}) < len(own) and not plan.merge_own_labels:
            merged = ", ".join(spelled(label) for label in own if label in spellings)
            raise Refusal("study.merges_own_labels", site=dataset.site.name, labels=merged[:800])
    return [label for label in labels if label not in spellings], spellings


def _key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _sites_with(label: str, datasets: Sequence[Dataset]) -> tuple[tuple[str, int | None], ...]:
    return tuple(
        (dataset.site.name, dataset.card["labels"][label])
        for dataset in datasets
        if label in dataset.card["labels"]
    )


def _side_by_side(group: SimilarSpellings) -> str:
    spellings = [
        f"\u201c{spelling.shown}\u201d at {', '.join(name for name, _ in spelling.sites)}"
        for spelling in group.spellings
    ]
    return "; ".join(spellings)[:800]
