"""Labels that a manifest reads as one: where that is more than another spelling of the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator

from contracts.entities import labels_of
from contracts.labels import skeleton, spelled
from contracts.manifest import ModelSpec
from site_agent.weaknesses.kinds import Weakness
from translations.catalogues import words

_ = words("site_agent")


def of_labels(model: ModelSpec, own: Collection[str]) -> Iterator[Weakness]:
    """`own` are the labels of this site's dataset, or its types of entities: it had said that they differ."""
    unlike = [
        f"\u201c{spelled(said)}\u201d as \u201c{spelled(label)}\u201d"
        for said, label in sorted(model.spellings.items())
        if skeleton(said) != skeleton(label)
    ]
    if unlike:
        yield Weakness(
            "unlike-labels",
            _("It reads labels as one that do not look alike: %(value)s.")
            % {"value": "; ".join(unlike)[:800]},
        )
    if model.task == "token-classification":
        own = labels_of(own)
    merged: dict[str, list[str]] = defaultdict(list)
    for label in sorted(own):
        merged[model.spellings.get(label, label)].append(label)
    groups = [
        ", ".join(f"\u201c{spelled(label)}\u201d" for label in labels)
        for labels in merged.values()
        if len(labels) > 1
    ]
    if groups:
        yield Weakness(
            "merges-own-labels",
            _("Labels that your own dataset keeps apart become one class: %(value)s.")
            % {"value": "; ".join(groups)[:800]},
        )
