"""Which column is the text, which the label, which names the split or the site: inferred, then shown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from contracts.refusal import Refusal
from site_agent.datasets.readers import Nested, Record
from site_agent.words import printable

# In the order of preference. German names stand beside English ones, as they do in hospitals' exports.
TEXT_NAMES = ("text", "note", "narrative", "report", "sentence", "comment", "passage", "document", "body",
              "content", "dialogue", "message", "befund", "freitext")  # fmt: skip
LABEL_NAMES = (
    "label",
    "class",
    "category",
    "target",
    "code",
    "diagnosis",
    "type",
    "y",
    "klasse",
    "kategorie",
)
SPLIT_NAMES = ("split", "set", "fold", "partition", "subset")
SITE_NAMES = ("site", "hospital", "clinic", "centre", "center", "trust", "klinik", "standort")
SPLITS = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
MAX_LABELS = 1000


@dataclass(frozen=True)
class Columns:
    """The columns in use; `split` and `site` are None where the file has none. `guessed` are the roles whose
    column nobody has named."""

    text: str
    label: str
    split: str | None = None
    site: str | None = None
    guessed: tuple[str, ...] = ()

    @property
    def used(self) -> tuple[str, ...]:
        """The names of the columns that are read."""
        return tuple(name for name in (self.text, self.label, self.split, self.site) if name is not None)

    def of(self, role: str) -> str:
        """The column of a role that is in use."""
        return str(getattr(self, role))


def infer(
    sample: Sequence[Record],
    *,
    text: str | None = None,
    label: str | None = None,
    split: str | None = None,
    site: str | None = None,
) -> Columns:
    """Choose the columns by what the user says, else by their names, else by what stands in the sample.

    Refuses with `dataset.no_rows`, `dataset.no_column`, `dataset.which_column` (with the candidates' names)
    or `dataset.column_type`.
    """
    if not sample:
        raise Refusal("dataset.no_rows")
    named = {"text": text, "label": label, "split": split, "site": site}
    names = list(sample[0].values)
    for said in (text, label, split, site):
        if said is not None and said not in names:
            raise Refusal("dataset.no_column", column=printable(said, 64), columns=_listed(names))
    split = split or _split_column(sample, _without(names, text, label, site))
    site = site or _by_name(SITE_NAMES, _without(names, text, label, split))
    text = text or _by_name(TEXT_NAMES, _without(names, label, split, site))
    text = text or _longest(sample, _without(names, label, split, site))
    label = label or _by_name(LABEL_NAMES, _without(names, text, split, site))
    label = label or _few_values(sample, _without(names, text, split, site))
    for name in (text, label):
        _refuse_type(sample, name)
    chosen = {"text": text, "label": label, "split": split, "site": site}
    guessed = tuple(role for role, name in chosen.items() if name is not None and named[role] is None)
    return Columns(text, label, split, site, guessed)


def split_of_name(file: str) -> str | None:
    """The split that a file's name says, if any."""
    return next((SPLITS[word] for word in re.split(r"[^a-z]+", file.lower()) if word in SPLITS), None)


def _refuse_type(sample: Sequence[Record], name: str) -> None:
    """A column whose type is no text is named once, not by each of its rows."""
    cell = sample[0].values.get(name)
    if isinstance(cell, Nested) and cell.kind:
        raise Refusal("dataset.column_type", column=printable(name, 64), type=cell.kind[:60])


def _without(names: list[str], *taken: str | None) -> list[str]:
    return [name for name in names if name not in taken]


def _listed(names: list[str]) -> str:
    return ", ".join(printable(name, 64) for name in names[:20]) + (" …" if len(names) > 20 else "")


def _by_name(wanted: tuple[str, ...], names: list[str]) -> str | None:
    known = {name.strip().lower(): name for name in reversed(names)}
    return next((known[name] for name in wanted if name in known), None)


def _split_column(sample: Sequence[Record], names: list[str]) -> str | None:
    """A column is the split only if its name says so and all of its values do."""
    name = _by_name(SPLIT_NAMES, names)
    if name is None:
        return None
    values = {str(record.values.get(name, "")).strip().lower() for record in sample}
    return name if values <= set(SPLITS) else None


def _longest(sample: Sequence[Record], names: list[str]) -> str:
    """The column whose texts are at least twice as long as any other column's."""
    lengths = {
        name: sum(len(value) for record in sample if isinstance(value := record.values.get(name), str))
        for name in names
    }
    order = sorted(names, key=lambda name: -lengths[name])
    clear = order and lengths[order[0]] >= 10 * len(sample)
    if not clear or (len(order) > 1 and lengths[order[0]] < 2 * lengths[order[1]]):
        raise Refusal("dataset.which_column", role="text", option="--text-column", columns=_listed(order))
    return order[0]


def _few_values(sample: Sequence[Record], names: list[str]) -> str:
    """The only column that repeats a few short values."""

    def fits(name: str) -> bool:
        values = [record.values.get(name) for record in sample]
        if not all(isinstance(value, str | int) and str(value).strip() for value in values):
            return False
        distinct = {str(value) for value in values}
        return 2 <= len(distinct) <= min(MAX_LABELS, len(values) // 2) and max(map(len, distinct)) <= 100

    candidates = [name for name in names if fits(name)]
    if len(candidates) != 1:
        columns = _listed(candidates or names)
        raise Refusal("dataset.which_column", role="label", option="--label-column", columns=columns)
    return candidates[0]
