"""Train, validation and test, where a file has none: deterministic, stratified, no twins across splits.

Texts are ordered by their hash, so the split depends on nothing but the rows themselves. Equal texts go to
one split together: a test row that was trained on would flatter every figure. Files that name some splits
keep them, and give what is lacking from train: a run needs rows to learn, to be steered by, and to be tested.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from contracts.rows import Split

HELD_OUT: tuple[Split, Split] = ("test", "validation")
SHARE = 0.1
"""The share of validation, and that of test; the rest is train."""


def complete(named: Sequence[Split], texts: Sequence[bytes], labels: Sequence[str]) -> list[Split]:
    """The splits that the rows name, with those that no row has taken from train, as in `assign`."""
    lacking = [split for split in HELD_OUT if split not in named]
    learnt = [place for place, split in enumerate(named) if split == "train"]
    made = assign([texts[place] for place in learnt], [labels[place] for place in learnt], lacking)
    splits = list(named)
    for place, split in zip(learnt, made, strict=True):
        splits[place] = split
    return splits


def assign(
    texts: Sequence[bytes], labels: Sequence[str], held_out: Sequence[Split] = HELD_OUT
) -> list[Split]:
    """The split of each row, in order. `texts` are hashes of the rows' texts, `labels` their labels; train
    gives to the splits that are `held_out`.

    1. Each distinct text belongs to the label with which it is first seen.
    2. Label by label, its texts in the order of their hashes: first test, then validation, then train.
    3. What rounding takes from one label is given to the next; a label keeps at least a third in train.
    4. If a split is empty at the end, it takes one text from the label with the most in train.
    """
    first_label: dict[bytes, str] = {}
    for text, label in zip(texts, labels, strict=True):
        first_label.setdefault(text, label)
    strata: dict[str, list[bytes]] = defaultdict(list)
    for text in sorted(first_label):
        strata[first_label[text]].append(text)

    chosen: dict[bytes, Split] = {}
    carried = dict.fromkeys(held_out, 0.5)
    for label in sorted(strata):
        left = list(strata[label])
        for split in held_out:
            wanted = carried[split] + SHARE * len(strata[label])
            taken = min(int(wanted), len(strata[label]) // 3)
            carried[split] = wanted - taken
            chosen.update(dict.fromkeys(left[:taken], split))
            left = left[taken:]
        chosen.update(dict.fromkeys(left, "train"))
    _fill(chosen, strata, held_out)
    return [chosen[text] for text in texts]


def _fill(chosen: dict[bytes, Split], strata: dict[str, list[bytes]], held_out: Sequence[Split]) -> None:
    for split in reversed(held_out):
        if split in chosen.values():
            continue
        in_train = {
            label: [text for text in texts if chosen[text] == "train"]
            for label, texts in sorted(strata.items())
        }
        largest = max(in_train.values(), key=len, default=[])
        if len(largest) > 1 or sum(map(len, in_train.values())) > 1:
            chosen[largest[0]] = split
